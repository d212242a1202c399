/*
 * realloc, memalign and malloc in every handler of fork, registered before the first malloc
 * Claim: hangs or crashes before glibc 2.24, where malloc's locks are handlers too.
 */
#include "../probe.h"

static void handler(void)
{
	void *p = malloc(100), *q = NULL;
	p = realloc(p, 5000);
	if (posix_memalign(&q, 256, 1000))
		wrong("posix_memalign failed");
	free(p);
	free(q);
}

static void nothing(void) {}

PROBE("realloc-handler")
{
	pthread_atfork(handler, handler, handler);
	free(malloc(1));
	idle(1);
	once(nothing);
}
