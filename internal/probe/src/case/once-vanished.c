/*
 * pthread_once whose function another thread of the parent is in
 * Claim: works on glibc, which counts forks and runs the function anew; the child hangs on musl.
 */
#include "../probe.h"
#include <sched.h>

static pthread_once_t control = PTHREAD_ONCE_INIT;
static volatile int there;
static pthread_t first;

static void function_of_it(void)
{
	if (there)
		return; /* the child's turn */
	there = 1;
	for_ever();
}

static void *runs(void *arg)
{
	pthread_once(&control, function_of_it);
	return arg;
}

static void call(void) { pthread_once(&control, function_of_it); }

PROBE("once-vanished")
{
	idle(1);
	pthread_create(&first, NULL, runs, NULL);
	while (!there)
		sched_yield();
	once(call);
}
