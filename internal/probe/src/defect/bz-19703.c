/*
 * fork in a signal handler that interrupts malloc, in a process of one thread
 * Claim: the process hangs before glibc 2.24 (BZ 19703): fork wants the lock that malloc holds
 * below it.
 */
#include "../probe.h"

#include <sys/time.h>

static void tick(int s)
{
	(void)s;
	if (used_up())
		return;
	pid_t pid = fork();
	if (pid == 0) {
		born();
		_exit(0);
	}
	collect(pid);
}

PROBE("bz-19703")
{
	struct itimerval often = {{0, 300}, {0, 300}};
	signal(SIGALRM, tick);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned n = 0; !used_up(); n++)
		free(malloc(2000u << (n % 10)));
	signal(SIGALRM, SIG_IGN);
}
