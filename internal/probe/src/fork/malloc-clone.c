/*
 * malloc in the child of a clone that libc does not see, while other threads allocate
 * Claim: the child may hang on glibc: nobody holds malloc's locks over this. A thread's own cache
 * and arena serve most calls, so the window is rare.
 */
#include "../probe.h"
#include "../calls.h"

static pid_t (*plain)(void);

static __attribute__((unused)) pid_t by_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static void *churn(void *arg)
{
	int n = (int)(long)arg;
	for (;;) {
		enter(n);
		do_malloc();
		leave(n);
	}
	return NULL;
}

PROBE("malloc-clone")
{
	pthread_t t;
	/* One arena for all: then a thread that holds it is in everybody's way. */
	int (*set)(int, int) = (int (*)(int, int))function("mallopt");
	if (set)
		set(-8, 1);
	plain = by_clone;
	raced();
	for (long i = 0; i < 2; i++)
		pthread_create(&t, NULL, churn, (void *)i);
	while (!used_up()) {
		pid_t pid = forked(plain);
		if (pid == 0) {
			reached();
			do_malloc();
			syscall(SYS_exit_group, 0);
		}
		collect(pid);
	}
}
