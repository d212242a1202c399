/*
 * fork in a callback of dl_iterate_phdr; the child calls it again.
 * Claim: the child hangs on every glibc: the loader's second lock still names the thread by its
 * old number.
 */
#include "../probe.h"
#include <link.h>

static pid_t pid;

static int nothing(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info, (void)size, (void)arg;
	return 0;
}

static int forks(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info, (void)size, (void)arg;
	pid = forked(fork);
	if (pid == 0) {
		born();
		dl_iterate_phdr(nothing, NULL);
		_exit(0);
	}
	return 1;
}

PROBE("dl_iterate_phdr-callback")
{
	idle(1);
	dl_iterate_phdr(forks, NULL);
	collect(pid);
}
