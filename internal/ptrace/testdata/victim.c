// victim HOW: a process that is stopped for an instant, again and again. It
// writes "ready PID" when it is in the state to be stopped in.
//
// HOW: run      it computes for ever
//      signals  so it does, and counts signals of SIGRTMIN, whose values must come
//               in order; when one has the value 0 it writes how many there were
//      sleep    it sleeps in epoll_wait, and writes "woken" if that ends
//      threads  it starts threads that end at once, one after the other
//      vfork    it waits in vfork, uninterruptibly, for a child that reads
//               standard input; then it computes as with run
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static volatile unsigned long turns;
static volatile int wrong;
static int count;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)context;
	if (info->si_value.sival_int == 0) {
		dprintf(1, "%d %d\n", count, wrong);
		return;
	}
	if (info->si_value.sival_int != ++count || info->si_code != SI_QUEUE)
		wrong = 1;
}

static void *nothing(void *arg)
{
	for (volatile int i = 0; i < 20000; i++)
		;
	return arg;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigaction(SIGRTMIN, &sa, NULL);
	dprintf(1, "ready %d\n", getpid());
	if (strcmp(how, "sleep") == 0) {
		struct epoll_event event;

		epoll_wait(epoll_create1(0), &event, 1, -1);
		dprintf(1, "woken\n");
	}
	if (strcmp(how, "vfork") == 0) {
		char c;

		if (vfork() == 0)
			_exit(read(0, &c, 1) < 0);
	}
	while (strcmp(how, "threads") == 0) {
		pthread_t t;

		if (pthread_create(&t, NULL, nothing, NULL) != 0)
			return 1;
		pthread_join(t, NULL);
	}
	for (;;)
		turns++;
}
