/*
 * setutent, getutent and endutent
 * Claim: hangs on glibc: the lock of utmp is never made new. musl has none.
 */
#include "../calls.h"
#include <utmp.h>

static void call(void)
{
	setutent();
	getutent();
	endutent();
}

PROBE("getutent")
{
	race(call, call);
}
