/*
 * setenv and unsetenv
 * Claim: hangs on glibc: the lock of the environment is never made new. musl has none: there
 * threads that call it at once break it without any fork.
 */
#include "../calls.h"

PROBE("setenv")
{
	race(do_setenv, do_setenv);
}
