/*
 * malloc_info, which reads every arena under its lock
 * Claim: works: fork takes the locks of all arenas.
 */
#include "../calls.h"

static int (*info)(int, FILE *);
static FILE *out;
static void call(void) { info(0, out); }

PROBE("malloc-info")
{
	out = null_stream();
	if (!(info = (int (*)(int, FILE *))function("malloc_info")))
		absent("malloc_info");
	race(call, call);
}
