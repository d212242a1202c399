/*
 * popen, which runs no handlers
 * Claim: no handler runs from glibc 2.29 on; before, popen is a fork.
 */
#include "../probe.h"

static volatile int ran;

static void count(void) { ran++; }

PROBE("popen-handlers")
{
	pthread_atfork(count, count, count);
	idle(1);
	FILE *f = popen(":", "r");
	if (!f)
		refused("popen");
	pclose(f);
	if (ran)
		wrong("%d handlers ran", ran);
}
