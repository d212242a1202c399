/*
 * fork in a signal handler that interrupts fork, in a process of one thread
 * Claim: the process hangs on glibc 2.28 and 2.29 (BZ 24161): the handlers' lock is taken even by
 * one thread alone.
 */
#include "../probe.h"

static void again(int s)
{
	(void)s;
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
}

/* Runs while fork holds what it takes first. */
static void prepare(void) { raise(SIGUSR1); }

static int deep;

static void once_only(void)
{
	if (!deep++)
		prepare();
}

static void nothing(void) {}

PROBE("bz-24161")
{
	signal(SIGUSR1, again);
	pthread_atfork(once_only, NULL, NULL);
	once(nothing);
}
