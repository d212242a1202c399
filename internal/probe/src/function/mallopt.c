/*
 * mallopt, which locks the main arena
 * Claim: works: fork takes the locks of all arenas.
 */
#include "../calls.h"

static int (*set)(int, int);
static void call(void) { set(-3, 128 << 10); }

PROBE("mallopt")
{
	if (!(set = (int (*)(int, int))function("mallopt")))
		absent("mallopt");
	race(call, call);
}
