/*
 * Threads unwind, the child loads a library
 * Claim: hangs on glibc: the child needs the loader's second lock.
 */
#include "../calls.h"

PROBE("dl_iterate_phdr+dlopen")
{
	library_path(0);
	race(do_dl_iterate_phdr, do_dlopen);
}
