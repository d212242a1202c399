/*
 * atexit in threads, exit in the child
 * Claim: hangs on glibc: exit takes the lock of the list of exit functions (2.27 and later).
 */
#include "../calls.h"

PROBE("exit")
{
	rest(200);
	race(many_atexit, do_exit);
}
