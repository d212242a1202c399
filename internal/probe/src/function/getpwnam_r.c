/*
 * getpwnam_r
 * Claim: works: it has no lock of its own; before glibc 2.33 the lock of the name service switch
 * may hang it.
 */
#include "../calls.h"

static void call(void)
{
	struct passwd p, *found;
	char text[4096];
	getpwnam_r("root", &p, text, sizeof text, &found);
}

PROBE("getpwnam_r")
{
	race(call, call);
}
