/*
 * A handler in the child registers another, while threads of the parent do so too
 * Claim: the child hangs before glibc 2.28, where the list's lock is copied locked, and from 2.28
 * to 2.35 (BZ 27054).
 */
#include "../probe.h"

static volatile int left = 20000;

static void nothing(void) {}

static void call(void) { pthread_atfork(NULL, NULL, nothing); }

/* What is registered stays, and each fork runs it: it must not become too much. */
static void burst(void)
{
	for (int i = 0; i < 40; i++)
		call();
	if ((left -= 40) < 0)
		enough();
}

PROBE("register-child")
{
	pthread_atfork(NULL, NULL, call);
	rest(1000);
	race(burst, nothing);
}
