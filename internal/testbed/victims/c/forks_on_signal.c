// forks_on_signal KIND: a program whose thread holds a lock, and which forks at
// each SIGUSR1, so that a tracer can be there before.
//
// KIND: tz       glibc's time zone lock: the thread reads a zone file which is a FIFO
//       mutex    a pthread_mutex_t
//       free     the thread holds nothing and sleeps
//       handler  as free, with two fork handlers
//
// The child starts a thread that polls for ever with a time-out, and then takes
// the lock. It writes "ready pid=PID holder=TID" when the lock is held, and
// "child pid=PID" for each fork, as its own PID namespace counts them.
//
// Shows: a lock without an owner field, seen held at the fork; other threads of
// the child still run, so that nothing else could prove it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef SYS_pause
#define SYS_pause_or_ppoll SYS_pause
#else
#define SYS_pause_or_ppoll SYS_ppoll
#endif

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *kind;
static int ready[2];
static char zone[64] = ":/tmp/forks-XXXXXX";

void before_fork(void) {}
void after_in_parent(void) {}
__attribute__((noinline)) void renew(void) { __asm__ volatile(""); }
void after_in_child(void) { renew(); getppid(); }

static void take(void)
{
	time_t now = 0;
	struct tm tm;

	if (strcmp(kind, "tz") == 0)
		localtime_r(&now, &tm);
	else if (strcmp(kind, "mutex") == 0)
		pthread_mutex_lock(&g_lock);
}

static void *hold(void *arg)
{
	int tid = syscall(SYS_gettid);

	if (write(ready[1], &tid, sizeof tid) < 0)
		abort();
	take();
	for (;;)
		pause();
	return arg;
}

static void *polls(void *arg)
{
	for (;;)
		poll(NULL, 0, 50);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t;
	sigset_t set;
	int sig, tid;
	char path[64], call[64];

	kind = argc > 1 ? argv[1] : "";
	if (strcmp(kind, "tz") == 0) {
		if (!mkdtemp(zone + 1))
			return 1;
		strcat(zone, "/zone");
		if (mkfifo(zone + 1, 0600) || setenv("TZ", zone, 1))
			return 1;
	}
	if (strcmp(kind, "handler") == 0) {
		pthread_atfork(before_fork, after_in_parent, after_in_child);
		pthread_atfork(NULL, NULL, after_in_child);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (pipe(ready) || pthread_create(&t, NULL, hold, NULL))
		return 1;
	if (read(ready[0], &tid, sizeof tid) != sizeof tid)
		return 1;
	// The thread has the lock when it waits in its last call: the FIFO's open, or pause.
	snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
	for (;;) {
		FILE *f = fopen(path, "r");

		if (f && fgets(call, sizeof call, f) &&
		    atoi(call) == (strcmp(kind, "tz") == 0 ? SYS_openat : SYS_pause_or_ppoll)) {
			fclose(f);
			break;
		}
		if (f)
			fclose(f);
		usleep(1000);
	}
	printf("ready pid=%d holder=%d\n", getpid(), tid);
	fflush(stdout);
	for (;;) {
		if (sigwait(&set, &sig))
			return 1;
		pid_t pid = fork();

		if (pid == 0) {
			pthread_create(&t, NULL, polls, NULL);
			take();
			for (;;)
				pause();
		}
		printf("child pid=%d\n", pid);
		fflush(stdout);
	}
}
