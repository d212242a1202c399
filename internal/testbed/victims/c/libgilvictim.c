// lend(state): holds Python's lock (GIL) by a thread state that another thread
// made, and forks so. In the child a new thread wants the lock.
//
// Shows: a holder of the GIL of which the interpreter says that it is a thread
// which vanished at the fork, though it is the one that goes on (until 3.11, where
// a thread state belongs to who made it). It writes "ready pid=PID" in the child;
// SIGUSR2 to that ends the wait, and it writes "woken".
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

extern void PyEval_RestoreThread(void *state);
extern void *PyEval_SaveThread(void);
extern int PyGILState_Ensure(void);

static void *want(void *unused)
{
	PyGILState_Ensure();
	puts("woken");
	fflush(stdout);
	for (;;)
		pause();
	return unused;
}

void lend(void *state)
{
	pthread_t t;
	sigset_t usr2;
	int sig;

	PyEval_RestoreThread(state);
	if (fork() == 0) {
		sigemptyset(&usr2);
		sigaddset(&usr2, SIGUSR2);
		pthread_sigmask(SIG_BLOCK, &usr2, NULL);
		pthread_create(&t, NULL, want, NULL);
		printf("ready pid=%d\n", getpid());
		fflush(stdout);
		sigwait(&usr2, &sig);
	}
	PyEval_SaveThread();
	for (;;)
		pause();
}
