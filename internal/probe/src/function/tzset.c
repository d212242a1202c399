/*
 * tzset
 * Claim: hangs on glibc: the time zone's lock is never made new.
 */
#include "../calls.h"

PROBE("tzset")
{
	race(tzset, tzset);
}
