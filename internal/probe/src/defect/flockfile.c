/*
 * A stream locked by the forking thread and unlocked in the child; another thread of the child prints
 * Claim: the other thread hangs before glibc 2.37: fork has made the lock new, and the unlock
 * takes its count below zero.
 */
#include "../probe.h"

static FILE *out;
static pthread_mutex_t done = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t ready = PTHREAD_MUTEX_INITIALIZER;

static void *print(void *arg)
{
	pthread_mutex_lock(&done);
	pthread_mutex_unlock(&ready);
	fprintf(out, "text\n");
	pthread_mutex_unlock(&done);
	return arg;
}

static void call(void)
{
	pthread_t t;
	funlockfile(out);
	fprintf(out, "text\n"); /* takes the lock and does not give it back */
	pthread_mutex_lock(&ready);
	if (pthread_create(&t, NULL, print, NULL))
		refused("pthread_create");
	/* A mutex and not pthread_join: all who wait then wait for threads of this process. */
	pthread_mutex_lock(&ready);
	pthread_mutex_lock(&done);
}

PROBE("flockfile")
{
	idle(1);
	out = null_stream();
	flockfile(out);
	once(call);
}
