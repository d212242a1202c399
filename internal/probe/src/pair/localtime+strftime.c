/*
 * Threads ask for local times, the child formats one
 * Claim: hangs on glibc: one lock for all of the time zone.
 */
#include "../calls.h"

PROBE("localtime+strftime")
{
	race(do_localtime, do_strftime);
}
