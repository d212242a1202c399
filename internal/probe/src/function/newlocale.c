/*
 * newlocale and freelocale
 * Claim: hangs on glibc: the lock of the locales is never made new.
 */
#include "../calls.h"

static void call(void)
{
	locale_t l = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
	if (l)
		freelocale(l);
}

PROBE("newlocale")
{
	race(call, call);
}
