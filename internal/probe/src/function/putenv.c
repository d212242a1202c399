/*
 * putenv
 * Claim: hangs on glibc: the lock of the environment is never made new. musl has none: there
 * threads that call it at once break it without any fork.
 */
#include "../calls.h"

static void call(void) { putenv("FORKPROOF_B=1"); }

PROBE("putenv")
{
	race(call, call);
}
