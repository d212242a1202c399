/*
 * A mutex (recursive) locked before fork by the thread that forks, unlocked and locked in the child
 * Claim: does not work on glibc: the mutex names its owner by the parent's thread number, so the
 * child may not unlock it, and hangs when it locks.
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

PROBE("mutex-recursive")
{
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&m, &a);
	pthread_mutex_lock(&m);
	once(call);
}
