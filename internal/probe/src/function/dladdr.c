/*
 * dladdr
 * Claim: works: the loader's main lock is made new by fork.
 */
#include "../calls.h"

static void call(void)
{
	Dl_info i;
	dladdr((void *)malloc, &i);
}

PROBE("dladdr")
{
	race(call, call);
}
