/*
 * A semaphore that another thread of the parent has taken
 * Claim: the child hangs on every libc: Python's locks are of this kind.
 */
#include "../probe.h"
#include <sched.h>
#include <semaphore.h>

static sem_t s;
static volatile int there;

static void *holds(void *arg)
{
	sem_wait(&s);
	there = 1;
	for_ever();
	return arg;
}

static void call(void) { sem_wait(&s); }

PROBE("semaphore-other")
{
	pthread_t t;
	sem_init(&s, 0, 1);
	idle(1);
	pthread_create(&t, NULL, holds, NULL);
	while (!there)
		sched_yield();
	once(call);
}
