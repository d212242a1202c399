/*
 * fprintf to one stream that all share
 * Claim: works: fork takes the lock of the list of streams, and makes each stream's new. On musl a
 * stream that another thread writes to stays locked.
 */
#include "../calls.h"

static FILE *out;
static void call(void)
{
	fprintf(out, "%d %s\n", 1, "text");
	fflush(out);
}

PROBE("stdio")
{
	out = null_stream();
	race(call, call);
}
