/*
 * Threads load and unload a library, the child unwinds
 * Claim: hangs on glibc: dlopen takes the loader's second lock to change the list.
 */
#include "../calls.h"

PROBE("dlopen+dl_iterate_phdr")
{
	library_path(0);
	race(do_dlopen, do_dl_iterate_phdr);
}
