/*
 * Threads change the environment, the child asks for the local time
 * Claim: works: the time zone is read from the environment without its lock.
 */
#include "../calls.h"

PROBE("setenv+localtime")
{
	race(do_setenv, do_localtime);
}
