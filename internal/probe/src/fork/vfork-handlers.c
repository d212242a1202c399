/*
 * vfork, which runs no handlers
 * Claim: no handler runs.
 */
#include "../probe.h"

static volatile int ran;

static void count(void) { ran++; }

PROBE("vfork-handlers")
{
	pthread_atfork(count, count, count);
	idle(1);
	pid_t pid = vfork();
	if (pid == 0)
		_exit(0);
	if (pid < 0)
		refused("vfork");
	collect(pid);
	if (ran)
		wrong("%d handlers ran", ran);
}
