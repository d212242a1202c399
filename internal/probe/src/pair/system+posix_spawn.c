/*
 * Threads call system, the child starts a program
 * Claim: works.
 */
#include "../calls.h"

PROBE("system+posix_spawn")
{
	race(do_system, do_posix_spawn);
}
