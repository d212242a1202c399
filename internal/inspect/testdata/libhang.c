/* Takes a lock twice: nobody is left who could release it. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

pthread_mutex_t g_library_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noinline)) void wait_within(void) {
	pthread_mutex_lock(&g_library_lock);
	puts("not reached");
}

void hang_here(void) {
	pthread_mutex_lock(&g_library_lock);
	printf("%d\n", (int)getpid());
	fflush(stdout);
	wait_within();
	puts("not reached");
}
