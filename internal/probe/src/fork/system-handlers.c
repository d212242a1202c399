/*
 * system, which runs no handlers
 * Claim: no handler runs on glibc; musl starts the program by posix_spawn too.
 */
#include "../probe.h"

static volatile int ran;

static void count(void) { ran++; }

PROBE("system-handlers")
{
	pthread_atfork(count, count, count);
	idle(1);
	if (system(":") == -1)
		refused("system");
	if (ran)
		wrong("%d handlers ran", ran);
}
