/*
 * _Fork, which runs no handlers
 * Claim: no handler runs, from glibc 2.34 on; other releases do not have it.
 */
#include "../probe.h"

static volatile int ran;

static void count(void) { ran++; }

PROBE("_Fork-handlers")
{
	pid_t (*plain)(void) = (pid_t (*)(void))function("_Fork");
	if (!plain)
		absent("_Fork");
	pthread_atfork(count, count, count);
	pid_t pid = forked(plain);
	if (pid == 0) {
		born();
		if (ran)
			wrong("the child saw %d handlers run", ran);
		_exit(0);
	}
	collect(pid);
	if (ran)
		wrong("the parent saw %d handlers run", ran);
}
