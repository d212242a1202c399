/*
 * clone as a system call, which libc does not see
 * Claim: no handler runs.
 */
#include "../probe.h"

static volatile int ran;

static void count(void) { ran++; }

static pid_t plain(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

PROBE("clone-handlers")
{
	pthread_atfork(count, count, count);
	idle(1);
	pid_t pid = forked(plain);
	if (pid == 0) {
		syscall(SYS_exit_group, ran);
	}
	collect(pid);
	if (ran)
		wrong("%d handlers ran", ran);
}
