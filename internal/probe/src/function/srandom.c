/*
 * srandom and rand
 * Claim: hangs on glibc: they share the lock of random.
 */
#include "../calls.h"

static void call(void)
{
	srand(1);
	(void)rand();
}

PROBE("srandom")
{
	race(call, call);
}
