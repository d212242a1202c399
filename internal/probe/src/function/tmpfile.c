/*
 * tmpfile
 * Claim: works: it takes the locks of the streams only.
 */
#include "../calls.h"

static void call(void)
{
	FILE *f = tmpfile();
	if (f)
		fclose(f);
}

PROBE("tmpfile")
{
	race(call, call);
}
