/*
 * Threads load and unload a library, the child looks up a name
 * Claim: works, unless the name service has yet to load a module.
 */
#include "../calls.h"

PROBE("dlopen+getaddrinfo")
{
	library_path(0);
	race(do_dlopen, do_getaddrinfo);
}
