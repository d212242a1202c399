/*
 * pthread_atfork in the child, while threads register handlers
 * Claim: the child works: fork holds the lock of the list. The parent may crash from glibc 2.36
 * on, where fork gives the lock up around each handler, and the list may move meanwhile.
 */
#include "../calls.h"

static volatile int left = 20000;
static void call(void) { pthread_atfork(NULL, NULL, nothing); }

/* What is registered stays, and each fork runs it: it must not become too much. */
static void burst(void)
{
	for (int i = 0; i < 40; i++)
		call();
	if ((left -= 40) < 0)
		enough();
}

PROBE("pthread_atfork")
{
	rest(1000);
	race(burst, call);
}
