/*
 * dlsym
 * Claim: works: the loader's main lock is made new by fork.
 */
#include "../calls.h"

static void call(void) { dlsym(RTLD_DEFAULT, "forkproof_none"); }

PROBE("dlsym")
{
	race(call, call);
}
