/*
 * abort in the child while another thread of the parent is in abort, in a handler of SIGABRT
 * Claim: the child ends by SIGABRT from glibc 2.41 on; before, abort's lock is copied locked: the
 * child hangs where the other thread holds it.
 */
#include "../probe.h"
#include <sched.h>

static volatile int there;

static void handler(int s)
{
	(void)s;
	if (!there) {
		there = 1;
		for_ever();
	}
}

static void *aborts(void *arg)
{
	abort();
	return arg;
}

static void call(void) { abort(); }

PROBE("abort")
{
	pthread_t t;
	idle(1);
	signal(SIGABRT, handler);
	pthread_create(&t, NULL, aborts, NULL);
	while (!there)
		sched_yield();
	expect(SIGABRT);
	once(call);
}
