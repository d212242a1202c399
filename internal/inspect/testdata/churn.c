/* A forked process in which threads come and go, all of which want one lock: each
 * holds it for some milliseconds and ends. Nobody is ever stuck. Prints its PID. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static sem_t room; /* for three at a time */
static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;

static void *visit(void *p) {
	struct timespec ms = {0, 7000000};
	pthread_mutex_lock(&g_lock);
	nanosleep(&ms, 0);
	pthread_mutex_unlock(&g_lock);
	if (p)
		sem_post(&room);
	return 0;
}

static void *producer(void *p) {
	for (;;) {
		pthread_t t;
		while (sem_wait(&room))
			;
		pthread_create(&t, 0, visit, &room);
		pthread_detach(t);
	}
	return p;
}

int main(void) {
	pid_t pid = fork();
	if (pid) {
		printf("%d\n", pid);
		fflush(stdout);
		for (;;)
			pause();
	}
	pthread_t t;
	sem_init(&room, 0, 3);
	pthread_create(&t, 0, producer, 0);
	for (;;)
		visit(0);
}
