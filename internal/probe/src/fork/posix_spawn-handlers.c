/*
 * posix_spawn, which runs no handlers
 * Claim: no handler runs from glibc 2.24 on; before, it may be a fork.
 */
#include "../probe.h"
#include <spawn.h>

static volatile int ran;

static void count(void) { ran++; }

PROBE("posix_spawn-handlers")
{
	char *args[] = {"sh", "-c", ":", NULL}, *none[] = {NULL};
	pid_t pid;
	pthread_atfork(count, count, count);
	idle(1);
	int err = posix_spawn(&pid, "/bin/sh", NULL, NULL, args, none);
	if (err) {
		errno = err;
		refused("posix_spawn of /bin/sh");
	}
	collect(pid);
	if (ran)
		wrong("%d handlers ran", ran);
}
