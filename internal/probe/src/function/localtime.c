/*
 * localtime_r
 * Claim: hangs on glibc: the time zone's lock is never made new. musl from 1.2.2 holds its own at
 * fork.
 */
#include "../calls.h"

PROBE("localtime")
{
	race(do_localtime, do_localtime);
}
