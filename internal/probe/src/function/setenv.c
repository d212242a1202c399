/*
 * setenv and unsetenv
 * Claim: hangs on glibc: the lock of the environment is never made new. musl has none.
 */
#include "../calls.h"

PROBE("setenv")
{
	race(do_setenv, do_setenv);
}
