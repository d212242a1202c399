/*
 * fork while another thread is in the constructor of a library; the child loads another
 * Claim: the loader's main lock is made new by fork, so the child goes on. On musl the child
 * waits.
 */
#include "../probe.h"
#include <sched.h>

#include <dlfcn.h>

static volatile int there;

/* The library's constructor calls the function that this variable names. */
static void slow(void)
{
	there = 1;
	for_ever();
}

static void *loads(void *arg)
{
	char text[24];
	snprintf(text, sizeof text, "%lx", (unsigned long)slow);
	setenv("FORKPROOF_CONSTRUCTOR", text, 1);
	library(0);
	return arg;
}

static void call(void)
{
	unsetenv("FORKPROOF_CONSTRUCTOR");
	library(1);
}

PROBE("constructor")
{
	pthread_t t;
	idle(1);
	library_path(1);
	pthread_create(&t, NULL, loads, NULL);
	while (!there)
		sched_yield();
	once(call);
}
