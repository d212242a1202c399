/* A library that starts threads, has static locks, and forks; it registers no
 * handler. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t table_lock = PTHREAD_RWLOCK_INITIALIZER;
static int jobs;

static void *work(void *arg)
{
	pthread_mutex_lock(&pool_lock);
	jobs++;
	pthread_mutex_unlock(&pool_lock);
	return arg;
}

int threads_start(pthread_t *t) { return pthread_create(t, NULL, work, NULL); }

int threads_read(void)
{
	pthread_rwlock_rdlock(&table_lock);
	int n = jobs;
	pthread_rwlock_unlock(&table_lock);
	return n;
}

int threads_own(pthread_mutex_t *m) { return pthread_mutex_lock(m); }

/* Work in a copy of the process. */
int threads_fork(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		free(malloc((size_t)jobs + 1));
		_exit(0);
	}
	return waitpid(pid, NULL, 0);
}

/* A helper that only forks; who calls it execs. */
static __attribute__((noinline)) pid_t fork_retry(void)
{
	for (int i = 0; i < 3; i++) {
		pid_t pid = fork();
		if (pid >= 0)
			return pid;
	}
	return -1;
}

int threads_spawn(char **argv)
{
	pid_t pid = fork_retry();
	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	return waitpid(pid, NULL, 0);
}
