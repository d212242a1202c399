/*
 * res_init
 * Claim: hangs on glibc: the lock of the resolver's configuration is never made new (2.26 and
 * later).
 */
#include "../calls.h"
#include <netinet/in.h>
#include <resolv.h>

static void call(void) { res_init(); }

PROBE("res_init")
{
	race(call, call);
}
