/*
 * random
 * Claim: hangs on glibc: the generator's lock is never made new.
 */
#include "../calls.h"

static void call(void) { (void)random(); }

PROBE("random")
{
	race(call, call);
}
