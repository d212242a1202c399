/*
 * abort in the child, while threads set what SIGABRT does
 * Claim: works: it ends the child by SIGABRT.
 */
#include "../calls.h"

static void call(void) { signal(SIGABRT, SIG_DFL); }
static void end(void) { abort(); }

PROBE("abort-signal")
{
	expect(SIGABRT);
	race(call, end);
}
