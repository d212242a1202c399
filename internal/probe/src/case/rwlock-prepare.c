/*
 * A read-write lock locked for writing in prepare, and unlocked in parent and child
 * Claim: the lock is unusable in the child on glibc 2.25 and later: the unlock is taken for a
 * reader's and returns 0, the next lock hangs.
 */
#include "../probe.h"

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static void take(void) { pthread_rwlock_wrlock(&lock); }
static void give(void) { pthread_rwlock_unlock(&lock); }

static void call(void)
{
	int err = pthread_rwlock_trywrlock(&lock);
	if (err)
		wrong("unlocked in the child's handler, and then pthread_rwlock_trywrlock: %s", strerror(err));
}

PROBE("rwlock-prepare")
{
	pthread_atfork(take, give, give);
	once(call);
}
