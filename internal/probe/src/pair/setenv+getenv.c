/*
 * Threads change the environment, the child reads it
 * Claim: works: getenv takes no lock.
 */
#include "../calls.h"

PROBE("setenv+getenv")
{
	race(do_setenv, do_getenv);
}
