/*
 * fmtmsg
 * Claim: hangs on glibc: its lock is never made new. musl has none.
 */
#include "../calls.h"
#include <fmtmsg.h>

static void call(void) { fmtmsg(MM_PRINT, "fork:proof", MM_INFO, "text", "none", "tag"); }

PROBE("fmtmsg")
{
	race(call, call);
}
