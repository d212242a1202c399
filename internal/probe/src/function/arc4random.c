/*
 * arc4random
 * Claim: works: it takes no lock that outlives fork.
 */
#include "../calls.h"

static unsigned (*get)(void);
static void call(void) { get(); }

PROBE("arc4random")
{
	if (!(get = (unsigned (*)(void))function("arc4random")))
		absent("arc4random");
	race(call, call);
}
