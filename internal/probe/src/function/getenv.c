/*
 * getenv while others change the environment
 * Claim: works: getenv takes no lock.
 */
#include "../calls.h"

PROBE("getenv")
{
	race(do_getenv, do_getenv);
}
