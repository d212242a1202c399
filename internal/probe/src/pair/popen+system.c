/*
 * Threads call popen, the child calls system
 * Claim: works: they share no lock.
 */
#include "../calls.h"

PROBE("popen+system")
{
	race(do_popen, do_system);
}
