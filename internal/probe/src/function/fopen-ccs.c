/*
 * fopen with an encoding
 * Claim: hangs on glibc: it takes the lock of the conversions.
 */
#include "../calls.h"

static void call(void)
{
	FILE *f = fopen("/dev/null", "r,ccs=UTF-16LE");
	if (f)
		fclose(f);
}

PROBE("fopen-ccs")
{
	race(call, call);
}
