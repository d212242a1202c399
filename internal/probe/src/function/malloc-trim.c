/*
 * malloc_trim, which visits every arena
 * Claim: works: fork takes the locks of all arenas.
 */
#include "../calls.h"

static int (*trim)(size_t);
static void call(void) { trim(0); }

PROBE("malloc-trim")
{
	if (!(trim = (int (*)(size_t))function("malloc_trim")))
		absent("malloc_trim");
	race(call, call);
}
