/*
 * A read-write lock that another thread of the parent holds for reading, locked for writing in the child
 * Claim: the child hangs on every libc; it may still read.
 */
#include "../probe.h"
#include <sched.h>

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static volatile int there;

static void *reads(void *arg)
{
	pthread_rwlock_rdlock(&lock);
	there = 1;
	for_ever();
	return arg;
}

static void call(void)
{
	if (pthread_rwlock_tryrdlock(&lock))
		wrong("the child may not read either");
	pthread_rwlock_unlock(&lock);
	pthread_rwlock_wrlock(&lock);
}

PROBE("rwlock-reader-vanished")
{
	pthread_t t;
	idle(1);
	pthread_create(&t, NULL, reads, NULL);
	while (!there)
		sched_yield();
	once(call);
}
