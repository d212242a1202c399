/*
 * backtrace
 * Claim: works: it unwinds by dl_iterate_phdr before glibc 2.35, and hangs where another thread is
 * in that.
 */
#include "../calls.h"

static int (*trace)(void **, int);
static void call(void)
{
	void *at[8];
	trace(at, 8);
}

PROBE("backtrace")
{
	if (!(trace = (int (*)(void **, int))function("backtrace")))
		absent("backtrace");
	call();
	race(call, call);
}
