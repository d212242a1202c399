/*
 * pthread_join in the child of a thread that the parent had
 * Claim: the child hangs on glibc 2.43, which waits for a state that fork does not change; before,
 * join returns at once.
 */
#include "../probe.h"

static pthread_t vanished;

static void *sleeps(void *arg)
{
	for_ever();
	return arg;
}

static void call(void)
{
	int err = pthread_join(vanished, NULL);
	if (err)
		wrong("pthread_join: %s", strerror(err));
}

PROBE("join-vanished")
{
	idle(1);
	if (pthread_create(&vanished, NULL, sleeps, NULL))
		refused("pthread_create");
	once(call);
}
