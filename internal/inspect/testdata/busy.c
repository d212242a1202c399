// busy HOW: a child of a fork that is busy in functions that others spin in, and
// gets on. A thread of the parent sleeps, as others' threads that hold a lock
// do. Prints the child's PID.
//
// HOW: spinlock  one thread takes and releases a pthread spin lock
//      contended three of them do
//      openmp    one thread hands out the steps of an OpenMP loop to itself
//      sleep     it sleeps a millisecond at a time
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_spinlock_t lock;
static volatile unsigned long turns;

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static void *spin(void *arg)
{
	for (;;) {
		pthread_spin_lock(&lock);
		turns++;
		pthread_spin_unlock(&lock);
	}
	return arg;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	pthread_t t;

	pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE);
	pthread_create(&t, NULL, sleeper, NULL);
	pid_t pid = fork();
	if (pid != 0) {
		printf("%d\n", pid);
		fflush(stdout);
		sleeper(NULL);
	}
	if (strcmp(how, "contended") == 0)
		for (int i = 0; i < 2; i++)
			pthread_create(&t, NULL, spin, NULL);
	if (strcmp(how, "spinlock") == 0 || strcmp(how, "contended") == 0)
		spin(NULL);
	while (strcmp(how, "sleep") == 0)
		usleep(1000);
	for (;;) {
#pragma omp parallel for num_threads(1) schedule(dynamic, 1)
		for (long i = 0; i < 1L << 40; i++)
			turns++;
	}
}
