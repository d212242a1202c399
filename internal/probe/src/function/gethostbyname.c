/*
 * gethostbyname of localhost
 * Claim: hangs on glibc: its own lock is never made new.
 */
#include "../calls.h"

static void call(void) { gethostbyname("localhost"); }

PROBE("gethostbyname")
{
	race(call, call);
}
