/*
 * A stream that another thread of the parent has locked by flockfile
 * Claim: works on glibc, which makes the lock of every stream new; the child hangs on musl.
 */
#include "../probe.h"
#include <sched.h>

static FILE *out;
static volatile int there;

static void *holds(void *arg)
{
	flockfile(out);
	there = 1;
	for_ever();
	return arg;
}

static void call(void)
{
	fprintf(out, "text\n");
	fflush(out);
}

PROBE("stream-other")
{
	pthread_t t;
	idle(1);
	out = null_stream();
	pthread_create(&t, NULL, holds, NULL);
	while (!there)
		sched_yield();
	once(call);
}
