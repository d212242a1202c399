/*
 * Threads load and unload a library, the child opens a conversion
 * Claim: works, unless a module of the conversions must be loaded.
 */
#include "../calls.h"

PROBE("dlopen+iconv_open")
{
	library_path(0);
	race(do_dlopen, do_iconv);
}
