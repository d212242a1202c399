/*
 * fflush of all streams
 * Claim: works: fork takes the lock of the list of streams.
 */
#include "../calls.h"

static void call(void) { do_flush_all(); }

PROBE("fflush-all")
{
	race(call, call);
}
