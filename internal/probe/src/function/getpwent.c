/*
 * setpwent, getpwent and endpwent
 * Claim: hangs on glibc: their lock is never made new.
 */
#include "../calls.h"

static void call(void)
{
	setpwent();
	getpwent();
	endpwent();
}

PROBE("getpwent")
{
	race(call, call);
}
