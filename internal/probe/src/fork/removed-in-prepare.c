/*
 * A prepare handler closes a library whose handlers were registered before it, in a process of one thread
 * Claim: the library's handlers do not run any more; on glibc 2.28 to 2.35 the list shrinks while
 * it is walked.
 */
#include "../probe.h"
#include <dlfcn.h>

static void *opened;
static volatile int ran;

static void closes(void)
{
	if (opened)
		dlclose(opened);
	opened = NULL;
}

static void count(void) { ran++; }

static void call(void)
{
	if (ran)
		wrong("%d handlers of a closed library ran", ran);
}

PROBE("removed-in-prepare")
{
	opened = library(0);
	if (register_from(opened, count, count, count))
		absent("pthread_atfork in libraries");
	pthread_atfork(closes, NULL, NULL);
	once(call);
	call();
}
