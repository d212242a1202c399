/*
 * dlopen and dlclose of a small library
 * Claim: hangs on glibc: the loader's second lock is never made new, though its main lock is.
 */
#include "../calls.h"

PROBE("dlopen")
{
	library_path(0);
	race(do_dlopen, do_dlopen);
}
