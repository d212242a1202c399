/*
 * timer_create and timer_delete with a thread to tell
 * Claim: may hang on glibc: the mutex of the list of timers with threads is never made new.
 */
#include "../calls.h"

static void tell(union sigval v) { (void)v; }
static void call(void)
{
	timer_t t;
	struct sigevent e = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = tell};
	if (timer_create(CLOCK_MONOTONIC, &e, &t) == 0)
		timer_delete(t);
}

PROBE("timer_create")
{
	race(call, call);
}
