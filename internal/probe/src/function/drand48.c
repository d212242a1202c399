/*
 * drand48
 * Claim: works: it takes no lock.
 */
#include "../calls.h"

static void call(void) { (void)drand48(); }

PROBE("drand48")
{
	race(call, call);
}
