/*
 * A barrier that awaits threads of the parent
 * Claim: the child hangs on every libc: those whom it awaits vanished. OpenMP hangs so.
 */
#include "../probe.h"

static pthread_barrier_t barrier;

static void call(void) { pthread_barrier_wait(&barrier); }

PROBE("barrier-vanished")
{
	idle(1);
	pthread_barrier_init(&barrier, NULL, 2);
	once(call);
}
