// cycle N [beside]: N threads (2 to 16), each with a mutex that the next one wants;
// the first is the main thread. With "beside" another thread sleeps in pause.
//
// Shows: a deadlock that no fork made. It writes "ready pid=PID first=0xADDR" when
// every thread has its own mutex and is about to want the next.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

pthread_mutex_t g_ring[16];
static pthread_barrier_t all;
static long count;

static void *hold(void *arg)
{
	long n = (long)arg;

	pthread_mutex_lock(&g_ring[n]);
	pthread_barrier_wait(&all);
	if (n == 0) {
		printf("ready pid=%d first=%p\n", getpid(), (void *)&g_ring[0]);
		fflush(stdout);
	}
	pthread_mutex_lock(&g_ring[(n + 1) % count]);
	return NULL;
}

static void *beside(void *arg)
{
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	count = argc >= 2 ? atol(argv[1]) : 0;
	if (count < 2 || count > 16) {
		fprintf(stderr, "usage: cycle N [beside]\n");
		return 2;
	}
	for (long n = 0; n < count; n++)
		pthread_mutex_init(&g_ring[n], NULL);
	pthread_barrier_init(&all, NULL, count);
	for (long n = 1; n < count; n++)
		if (pthread_create(&thread, NULL, hold, (void *)n))
			return 1;
	if (argc > 2 && pthread_create(&thread, NULL, beside, NULL))
		return 1;
	hold((void *)0);
	return 0;
}
