/*
 * A mutex (errorcheck) locked before fork by the thread that forks, unlocked and locked in the child
 * Claim: does not work on glibc, as with a recursive one.
 */
#include "../probe.h"

static pthread_mutex_t m;

static void call(void)
{
	int err = pthread_mutex_unlock(&m);
	if (err)
		wrong("pthread_mutex_unlock: %s", strerror(err));
	pthread_mutex_lock(&m);
}

PROBE("mutex-errorcheck")
{
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&m, &a);
	pthread_mutex_lock(&m);
	once(call);
}
