/*
 * getpwnam
 * Claim: hangs on glibc: the lock of each of these functions is never made new (getpwnam_r has
 * none).
 */
#include "../calls.h"

PROBE("getpwnam")
{
	race(do_getpwnam, do_getpwnam);
}
