/*
 * exit in the child while another thread of the parent is in exit, in a slow exit function
 * Claim: the child hangs on glibc 2.41 and later: exit holds a lock until the end of the process,
 * and fork does not make it new.
 */
#include "../probe.h"
#include <sched.h>

static volatile int there;

static void slow(void)
{
	there = 1;
	for_ever();
}

static void *leaves(void *arg)
{
	exit(0);
	return arg;
}

static void call(void) { exit(0); }

PROBE("exit-exit")
{
	pthread_t t;
	idle(1);
	atexit(slow);
	pthread_create(&t, NULL, leaves, NULL);
	while (!there)
		sched_yield();
	once(call);
}
