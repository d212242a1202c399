/*
 * A mutex that another thread of the parent holds
 * Claim: the child hangs on every libc: nobody makes a program's locks new.
 */
#include "../probe.h"
#include <sched.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
static volatile int there;

static void *holds(void *arg)
{
	pthread_mutex_lock(&held);
	there = 1;
	for_ever();
	return arg;
}

static void call(void) { pthread_mutex_lock(&held); }

PROBE("mutex-other")
{
	pthread_t t;
	idle(1);
	pthread_create(&t, NULL, holds, NULL);
	while (!there)
		sched_yield();
	once(call);
}
