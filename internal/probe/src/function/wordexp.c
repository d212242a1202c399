/*
 * wordexp
 * Claim: works: it takes no lock.
 */
#include "../calls.h"
#include <wordexp.h>

static void call(void)
{
	wordexp_t w;
	if (wordexp("a b ~root", &w, WRDE_NOCMD) == 0)
		wordfree(&w);
}

PROBE("wordexp")
{
	race(call, call);
}
