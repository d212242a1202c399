/*
 * iconv_open and iconv_close
 * Claim: hangs on glibc: the lock of the conversions is never made new.
 */
#include "../calls.h"

PROBE("iconv_open")
{
	race(do_iconv, do_iconv);
}
