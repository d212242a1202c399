/*
 * dlclose in a handler of fork (parent), in a process with threads
 * Claim: the parent hangs on glibc 2.28 to 2.35 (BZ 24595): fork holds the handlers' lock while
 * they run, and dlclose wants it. Fixed packages of 2.28 (RHEL 8.7), 2.34 and 2.35 work.
 */
#include "../probe.h"
#include <dlfcn.h>

static void *opened;

static void handler(void) { dlclose(opened); }

static void nothing(void) {}

PROBE("bz-24595-parent")
{
	idle(1);
	opened = library(0);
	pthread_atfork(NULL, handler, NULL);
	once(nothing);
}
