/*
 * a thread that allocates and ends: its heap is given back, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void *allocates(void *arg)
{
	do_malloc();
	return arg;
}

static void call(void)
{
	pthread_t t;
	if (pthread_create(&t, NULL, allocates, NULL) == 0)
		pthread_join(t, NULL);
}

PROBE("alloc-thread") { race(call, call); }
