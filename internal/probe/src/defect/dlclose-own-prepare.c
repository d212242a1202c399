/*
 * A handler of fork (prepare) closes a library that has handlers of its own; one thread alone
 * Claim: the process waits for ever before glibc 2.28, where a handler counts as in use; from 2.28
 * to 2.35 fork aborts, since the list shrinks while it is walked (parent and child).
 */
#include "../probe.h"
#include <dlfcn.h>

static void *opened;

static void handler(void)
{
	if (opened)
		dlclose(opened);
	opened = NULL;
}

static void nothing(void) {}

PROBE("dlclose-own-prepare")
{
	opened = library(0);
	pthread_atfork(handler, NULL, NULL);
	if (register_from(opened, nothing, nothing, nothing))
		absent("pthread_atfork in libraries");
	once(nothing);
}
