/*
 * Threads make threads, the child loads a library
 * Claim: works.
 */
#include "../calls.h"

PROBE("pthread_create+dlopen")
{
	library_path(0);
	race(do_pthread_create, do_dlopen);
}
