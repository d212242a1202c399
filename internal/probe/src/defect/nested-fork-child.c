/*
 * fork in a handler of fork (child), in a process with threads
 * Claim: the child hangs on glibc 2.28 to 2.35, for the same reason as BZ 24595.
 */
#include "../probe.h"

static int deep;

static void handler(void)
{
	if (deep++)
		return; /* the inner fork runs the handlers too */
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
}

static void nothing(void) {}

PROBE("nested-fork-child")
{
	idle(1);
	pthread_atfork(NULL, NULL, handler);
	once(nothing);
}
