/*
 * perror, which shares one stream
 * Claim: works: fork makes each stream's lock new. On musl stderr stays locked.
 */
#include "../calls.h"

static void call(void)
{
	errno = ENOENT;
	perror("forkproof");
}

PROBE("perror")
{
	race(call, call);
}
