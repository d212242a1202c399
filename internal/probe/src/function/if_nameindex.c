/*
 * if_nameindex, which asks the kernel
 * Claim: works: it takes no lock.
 */
#include "../calls.h"
#include <net/if.h>

static void call(void)
{
	struct if_nameindex *i = if_nameindex();
	if (i)
		if_freenameindex(i);
}

PROBE("if_nameindex")
{
	race(call, call);
}
