// omp MODE: a parallel region of OpenMP before a fork, and another one after it.
// Compile it with -fopenmp, and run it with OMP_NUM_THREADS of 2 or more.
//
// MODE: stuck   as said
//       free    no parallel region before the fork
//
// Shows: libgomp keeps its team, and the child waits for threads that it does
// not have; OMP_WAIT_POLICY=active makes it spin instead. It writes
// "ready parent=PID child=PID" after the fork.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int work(void)
{
	int sum = 0;
#pragma omp parallel reduction(+ : sum)
	sum += 1;
	return sum;
}

int main(int argc, char **argv)
{
	pid_t pid;

	if (argc != 2) {
		fprintf(stderr, "usage: omp stuck|free\n");
		return 2;
	}
	if (strcmp(argv[1], "stuck") == 0 && work() < 2) {
		fprintf(stderr, "omp: want OMP_NUM_THREADS of 2 or more\n");
		return 2;
	}
	pid = fork();
	if (pid < 0)
		return 1;
	if (pid == 0)
		work();
	else {
		printf("ready parent=%d child=%d\n", getpid(), pid);
		fflush(stdout);
	}
	for (;;)
		pause();
}
