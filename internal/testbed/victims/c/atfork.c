// atfork MODE: fork() itself does not return.
//
// MODE: prepare  a prepare handler wants a mutex that another thread holds, which
//                itself wants one that the main thread holds
//       join     a prepare handler joins such a thread
//       slow     as prepare, with another thread that waits for a signal only
//
// Shows: the hang is in the parent, and there is no child. In the last case
// nothing is proven, as the thread may let go. It writes "ready
// pid=PID holder=TID lock=0xADDR" just before it forks.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER, g_main = PTHREAD_MUTEX_INITIALIZER;
static pthread_t other;
static int joins, slow;
static volatile int prepared;
static sem_t held;
static pid_t holder;

static void prepare(void)
{
	if (joins)
		pthread_join(other, NULL);
	else
		pthread_mutex_lock(&g_lock);
	prepared = 1; // or the call would be a jump, and the handler on no stack
}

static void *hold(void *unused)
{
	holder = syscall(SYS_gettid);
	pthread_mutex_lock(&g_lock);
	sem_post(&held);
	while (slow)
		pause();
	pthread_mutex_lock(&g_main);
	return unused;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: atfork prepare|join|slow\n");
		return 2;
	}
	joins = strcmp(argv[1], "join") == 0;
	slow = strcmp(argv[1], "slow") == 0;
	pthread_mutex_lock(&g_main);
	sem_init(&held, 0, 0);
	if (pthread_create(&other, NULL, hold, NULL) || pthread_atfork(prepare, NULL, NULL))
		return 1;
	while (sem_wait(&held))
		;
	printf("ready pid=%d holder=%d lock=%p\n", getpid(), holder, (void *)&g_lock);
	fflush(stdout);
	fork();
	return 1;
}
