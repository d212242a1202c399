/*
 * posix_spawn
 * Claim: works: it takes no lock that outlives it.
 */
#include "../calls.h"

PROBE("posix_spawn")
{
	race(do_posix_spawn, do_posix_spawn);
}
