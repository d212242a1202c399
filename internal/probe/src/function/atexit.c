/*
 * atexit
 * Claim: hangs on glibc: the lock of the list of exit functions is never made new. musl from 1.2.2
 * holds its own at fork.
 */
#include "../calls.h"

PROBE("atexit")
{
	rest(200);
	race(many_atexit, do_atexit);
}
