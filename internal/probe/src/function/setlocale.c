/*
 * setlocale
 * Claim: hangs on glibc: the lock of the locales is never made new. musl from 1.2.2 holds its own
 * at fork.
 */
#include "../calls.h"

PROBE("setlocale")
{
	race(do_setlocale, do_setlocale);
}
