/* A thread holds three locks at a fork, of which glibc makes that of the stream
 * anew in the child (fresetlockfiles in its posix/fork.c). Nobody waits for them in the child, which
 * sleeps in poll; with an argument it waits for the first of them. Prints the
 * child's PID. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t g_rwlock = PTHREAD_RWLOCK_INITIALIZER;
pthread_mutex_t g_free = PTHREAD_MUTEX_INITIALIZER;
static FILE *stream;
static sem_t held;

static void *hold(void *p) {
	(void)p;
	pthread_mutex_lock(&g_lock);
	pthread_rwlock_wrlock(&g_rwlock);
	flockfile(stream);
	sem_post(&held);
	for (;;)
		pause();
}

int main(int argc, char **argv) {
	pthread_t t;
	stream = fopen("/dev/null", "w");
	pthread_create(&t, 0, hold, 0);
	pthread_setname_np(t, "refresher");
	while (sem_wait(&held))
		;
	pid_t pid = fork();
	if (pid == 0) {
		/* A thread of the child's own has its locks by right. */
		pthread_mutex_lock(&g_free);
		if (argc > 1 && argv[1][0])
			pthread_mutex_lock(&g_lock);
		for (;;)
			poll(0, 0, -1);
	}
	printf("%d\n", pid);
	fflush(stdout);
	for (;;)
		pause();
}
