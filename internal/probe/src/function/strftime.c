/*
 * strftime with zone and locale
 * Claim: hangs on glibc: the time zone's lock is never made new.
 */
#include "../calls.h"

PROBE("strftime")
{
	race(do_strftime, do_strftime);
}
