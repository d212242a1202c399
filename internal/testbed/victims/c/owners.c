// owners MODE: a child waits for a mutex that its parent's
//
// MODE: ended     other thread held at the fork, and that thread has ended since
//       survivor  prepare handler took, and no child handler gives back: its owner is
//                 the waiting thread itself, under the number that it had before
//
// Shows: who is to be named. It writes "ready parent=PID child=PID holder=TID
// lock=0xADDR" after the fork, and after the other thread's end.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t held, end;
static pid_t holder;

static void take(void)
{
	holder = syscall(SYS_gettid);
	pthread_mutex_lock(&g_lock);
}

static void give_back(void) { pthread_mutex_unlock(&g_lock); }

static void *hold(void *unused)
{
	take();
	sem_post(&held);
	sem_wait(&end);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t other;
	pid_t pid;
	int ended;

	if (argc != 2) {
		fprintf(stderr, "usage: owners ended|survivor\n");
		return 2;
	}
	ended = strcmp(argv[1], "ended") == 0;
	sem_init(&held, 0, 0);
	sem_init(&end, 0, 0);
	if (ended) {
		if (pthread_create(&other, NULL, hold, NULL))
			return 1;
		while (sem_wait(&held))
			;
	} else if (pthread_atfork(take, give_back, NULL)) {
		return 1;
	}
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0) {
		pthread_mutex_lock(&g_lock);
		return 1;
	}
	if (ended) {
		sem_post(&end);
		pthread_join(other, NULL);
	}
	printf("ready parent=%d child=%d holder=%d lock=%p\n", getpid(), pid, holder, (void *)&g_lock);
	fflush(stdout);
	for (;;)
		pause();
}
