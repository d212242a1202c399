/*
 * mktime
 * Claim: hangs on glibc: the time zone's lock is never made new.
 */
#include "../calls.h"

static void call(void)
{
	struct tm tm = {.tm_year = 100, .tm_mday = 1, .tm_isdst = -1};
	mktime(&tm);
}

PROBE("mktime")
{
	race(call, call);
}
