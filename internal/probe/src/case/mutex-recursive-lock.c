/*
 * A recursive mutex locked before fork by the thread that forks, and locked again in the child
 * Claim: the child hangs on glibc: it is not the owner by its new thread number.
 */
#include "../probe.h"

static pthread_mutex_t m;

static void call(void) { pthread_mutex_lock(&m); }

PROBE("mutex-recursive-lock")
{
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&m, &a);
	pthread_mutex_lock(&m);
	once(call);
}
