/*
 * Threads load and unload a library, the child makes a thread
 * Claim: works: 2.34 gave thread-local storage a lock of its own, which 2.35 makes new.
 */
#include "../calls.h"

PROBE("dlopen+pthread_create")
{
	library_path(0);
	race(do_dlopen, do_pthread_create);
}
