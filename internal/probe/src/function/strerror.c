/*
 * strerror
 * Claim: works: it comes to the message catalogues only with a locale that has some.
 */
#include "../calls.h"

static void call(void) { strerror(ENOENT); }

PROBE("strerror")
{
	race(call, call);
}
