/*
 * dlopen that fails, and dlerror
 * Claim: works: the loader's main lock is made new by fork.
 */
#include "../calls.h"

static void call(void)
{
	dlopen("/nonexistent/forkproof.so", RTLD_NOW);
	dlerror();
}

PROBE("dlerror")
{
	race(call, call);
}
