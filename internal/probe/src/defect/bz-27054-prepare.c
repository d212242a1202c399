/*
 * pthread_atfork in a handler of fork (prepare), in a process with threads
 * Claim: the parent hangs on glibc 2.28 to 2.35 (BZ 27054), for the same reason as BZ 24595.
 */
#include "../probe.h"

static void nothing(void) {}

static void handler(void) { pthread_atfork(NULL, NULL, nothing); }

PROBE("bz-27054-prepare")
{
	idle(1);
	pthread_atfork(handler, NULL, NULL);
	once(nothing);
}
