/*
 * pthread_kill in the child of a thread that the parent had
 * Claim: returns ESRCH or EINVAL, or 0 on glibc that asks nobody: it never hangs and never signals
 * another.
 */
#include "../probe.h"

static pthread_t vanished;

static void *sleeps(void *arg)
{
	for_ever();
	return arg;
}

static void call(void) { pthread_kill(vanished, 0); }

PROBE("kill-vanished")
{
	idle(1);
	pthread_create(&vanished, NULL, sleeps, NULL);
	once(call);
}
