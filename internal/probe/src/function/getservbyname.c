/*
 * getservbyname
 * Claim: hangs on glibc: its own lock is never made new.
 */
#include "../calls.h"

static void call(void) { getservbyname("http", "tcp"); }

PROBE("getservbyname")
{
	race(call, call);
}
