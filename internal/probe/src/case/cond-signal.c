/*
 * A condition variable signalled in the child, on which threads of the parent waited and one was signalled before
 * Claim: the child hangs on glibc 2.25 to 2.40 (fixed on the 2.38 to 2.40 branches), where signal
 * waits for waiters that vanished; later they eat signals.
 */
#include "../probe.h"
#include <sched.h>

static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static volatile int waiting, woken;

static void *waits(void *arg)
{
	pthread_mutex_lock(&m);
	waiting++;
	pthread_cond_wait(&c, &m);
	woken++;
	pthread_mutex_unlock(&m);
	for_ever();
	return arg;
}

static int seen(volatile int *n)
{
	pthread_mutex_lock(&m);
	int now = *n;
	pthread_mutex_unlock(&m);
	return now;
}

static void call(void)
{
	pthread_t t;
	int before = seen(&woken);
	if (pthread_create(&t, NULL, waits, NULL))
		refused("pthread_create");
	while (seen(&waiting) < 4)
		sched_yield();
	int signals = 0;
	while (seen(&woken) == before && signals < 32) {
		pthread_cond_signal(&c);
		signals++;
		for (int i = 0; i < 100 && seen(&woken) == before; i++)
			usleep(100);
	}
	if (seen(&woken) == before)
		wrong("%d signals woke nobody: waiters that vanished ate them", signals);
	if (signals > 1)
		wrong("only signal %d woke the waiter: those that vanished ate the others", signals);
}

PROBE("cond-signal")
{
	pthread_t t;
	idle(1);
	for (int i = 0; i < 3; i++)
		pthread_create(&t, NULL, waits, NULL);
	while (seen(&waiting) < 3)
		sched_yield();
	pthread_cond_signal(&c);
	while (seen(&woken) < 1)
		sched_yield();
	once(call);
}
