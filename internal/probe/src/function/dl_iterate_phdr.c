/*
 * dl_iterate_phdr, which unwinders call
 * Claim: hangs on glibc: the loader's second lock is never made new.
 */
#include "../calls.h"

PROBE("dl_iterate_phdr")
{
	race(do_dl_iterate_phdr, do_dl_iterate_phdr);
}
