/*
 * A condition variable destroyed in the child, on which a thread of the parent waited
 * Claim: the child hangs on glibc 2.25 and later: destroy waits for waiters that vanished. A
 * static pool of threads does so at exit.
 */
#include "../probe.h"

static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static int waiting;

static void *waits(void *arg)
{
	pthread_mutex_lock(&m);
	waiting++;
	for (;;)
		pthread_cond_wait(&c, &m);
	return arg;
}

static void call(void)
{
	int err = pthread_cond_destroy(&c);
	if (err)
		wrong("pthread_cond_destroy: %s", strerror(err));
}

PROBE("cond-destroy")
{
	pthread_t t;
	pthread_create(&t, NULL, waits, NULL);
	for (int there = 0; !there; pthread_mutex_unlock(&m)) {
		pthread_mutex_lock(&m);
		there = waiting;
	}
	once(call);
}
