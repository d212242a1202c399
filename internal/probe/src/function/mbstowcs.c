/*
 * mbstowcs in a locale not used before
 * Claim: hangs on glibc: it takes the lock of the conversions and that of the locales.
 */
#include "../calls.h"

PROBE("mbstowcs")
{
	race(do_mbstowcs, do_mbstowcs);
}
