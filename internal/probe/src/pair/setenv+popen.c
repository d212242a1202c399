/*
 * Threads change the environment, the child runs a program
 * Claim: works: the environment is passed on without its lock.
 */
#include "../calls.h"

PROBE("setenv+popen")
{
	race(do_setenv, do_popen);
}
