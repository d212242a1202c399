/*
 * Threads open conversions, the child converts in a new locale
 * Claim: hangs on glibc: the lock of the conversions is never made new.
 */
#include "../calls.h"

PROBE("iconv_open+mbstowcs")
{
	race(do_iconv, do_mbstowcs);
}
