/*
 * getgrnam
 * Claim: hangs on glibc: the lock of each of these functions is never made new.
 */
#include "../calls.h"
#include <grp.h>

static void call(void) { getgrnam("root"); }

PROBE("getgrnam")
{
	race(call, call);
}
