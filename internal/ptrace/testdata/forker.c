// forker HOW [N]: a program that is followed. It writes "ready PID" where it
// waits for a line of standard input before it begins.
//
// HOW: forks N    N processes by fork, one after the other, each of which ends with status 7
//      clone      a process by clone with no exit signal, and one by clone3
//      vfork      one by vfork, which executes true, and one by posix_spawn
//      thread-exec   a thread executes "forker status 42"
//      double     a child that forks a grandchild and ends first; the grandchild ends with 9
//      storm N    N threads which fork 20 processes each, and end at once
//      threads N  N threads that wait, and one fork meanwhile
//      status N   it ends with status N
//      abort      it ends by SIGABRT
//      signals    it waits for signals, counts them by number; SIGTERM has it write the counts and end
//      trap       it sends itself SIGTRAP, and makes a breakpoint instruction, with a handler that counts
//      calls N    4 threads call marked() N times each, and it writes how often it ran
//      again N    it waits for lines of input; for each a thread calls marked() again and again, N
//                 microseconds apart, while it forks, and writes whether all went well
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char *self;
static _Atomic long ran;
static pthread_barrier_t barrier;

__attribute__((noinline, noclone)) long marked(long n)
{
	char buf[32];

	snprintf(buf, sizeof buf, "%ld", n);
	ran++;
	return buf[0] + n;
}

static int await_child(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

static void *exec_thread(void *arg)
{
	char *args[] = {self, "status", "42", NULL};

	usleep(1000);
	execv(self, args);
	return arg;
}

static void *fork_thread(void *arg)
{
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(i & 1);
		if (pid < 0 || await_child(pid) != (i & 1) << 8)
			abort();
	}
	return arg;
}

static void *wait_thread(void *arg)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return arg;
}

static long apart;

static void *call_thread(void *arg)
{
	for (long i = 0; i < (long)arg; i++) {
		marked(i);
		if (apart > 1)
			usleep(apart);
	}
	return arg;
}

static volatile sig_atomic_t counts[65], wrong, last;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	counts[sig]++;
	if (sig == SIGRTMIN) {
		if (info->si_value.sival_int != last + 1)
			wrong = 1;
		last = info->si_value.sival_int;
	}
}

static void handle(int sig)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	sigfillset(&sa.sa_mask);
	sigaction(sig, &sa, NULL);
}

static int child_fn(void *arg)
{
	return *(int *)arg;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 1;
	char line[64];

	self = argv[0];
	if (strcmp(how, "status") == 0)
		return n;
	if (strcmp(how, "abort") == 0)
		abort();
	for (int sig = 1; sig < 65 && strcmp(how, "signals") == 0; sig++)
		handle(sig);
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (strcmp(how, "signals") == 0) {
		while (!counts[SIGTERM])
			pause();
		printf("%d %d %d %d\n", counts[SIGRTMIN], counts[SIGUSR1], counts[SIGUSR2], wrong);
		return 0;
	}
	if (fgets(line, sizeof line, stdin) == NULL)
		return 1;
	if (strcmp(how, "forks") == 0) {
		for (long i = 0; i < n; i++) {
			pid_t pid = fork();

			if (pid == 0)
				_exit(7);
			if (await_child(pid) != 7 << 8)
				return 3;
		}
	} else if (strcmp(how, "clone") == 0) {
		static char stack[65536];
		int status = 5;
		struct clone_args args = {.exit_signal = SIGCHLD};
		pid_t pid = clone(child_fn, stack + sizeof stack, 0, &status);

		if (await_child(pid) != 5 << 8)
			return 3;
		pid = syscall(SYS_clone3, &args, sizeof args);
		if (pid == 0)
			_exit(6);
		if (await_child(pid) != 6 << 8)
			return 4;
	} else if (strcmp(how, "vfork") == 0) {
		char *args[] = {"true", NULL};
		pid_t pid = vfork();

		if (pid == 0) {
			execve("/bin/true", args, environ);
			_exit(1);
		}
		if (await_child(pid) != 0)
			return 3;
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ) != 0 || await_child(pid) != 0)
			return 4;
	} else if (strcmp(how, "thread-exec") == 0) {
		pthread_t t;

		pthread_create(&t, NULL, exec_thread, NULL);
		pthread_join(t, NULL);
		return 3;
	} else if (strcmp(how, "double") == 0) {
		pid_t pid = fork();

		if (pid == 0) {
			if (fork() == 0) {
				while (getppid() == pid)
					usleep(100);
				_exit(9);
			}
			_exit(8);
		}
		if (await_child(pid) != 8 << 8)
			return 3;
	} else if (strcmp(how, "storm") == 0) {
		pthread_t t[n];

		for (long i = 0; i < n; i++)
			if (pthread_create(&t[i], NULL, fork_thread, NULL))
				return 3;
		for (long i = 0; i < n; i++)
			pthread_join(t[i], NULL);
	} else if (strcmp(how, "threads") == 0) {
		pthread_t t[n];
		pthread_attr_t attr;

		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 65536);
		pthread_barrier_init(&barrier, NULL, n + 1);
		for (long i = 0; i < n; i++)
			if (pthread_create(&t[i], &attr, wait_thread, NULL))
				return 3;
		pthread_barrier_wait(&barrier);
		pid_t pid = fork();

		if (pid == 0)
			_exit(7);
		if (await_child(pid) != 7 << 8)
			return 4;
		printf("up\n");
		fflush(stdout);
		if (fgets(line, sizeof line, stdin) == NULL)
			return 1;
		pthread_barrier_wait(&barrier);
		for (long i = 0; i < n; i++)
			pthread_join(t[i], NULL);
	} else if (strcmp(how, "trap") == 0) {
		handle(SIGTRAP);
		raise(SIGTRAP);
#if defined(__x86_64__)
		__asm__ volatile("int3");
		printf("%d\n", counts[SIGTRAP]);
#else
		printf("%d\n", counts[SIGTRAP] + 1);
#endif
	} else if (strcmp(how, "calls") == 0) {
		pthread_t t[4];

		for (int i = 0; i < 4; i++)
			pthread_create(&t[i], NULL, call_thread, (void *)n);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		printf("%ld\n", (long)ran);
	} else if (strcmp(how, "again") == 0) {
		pthread_t t;

		apart = n;
		do {
			pthread_create(&t, NULL, call_thread, (void *)(n > 1 ? 10L : 200L));
			pid_t pid = fork();

			if (pid == 0) {
				marked(1);
				_exit(7);
			}
			int status = await_child(pid);

			if (status == 7 << 8)
				printf("well\n");
			else
				printf("child went wrong: status %#x\n", status);
			fflush(stdout);
			pthread_join(t, NULL);
		} while (fgets(line, sizeof line, stdin) != NULL);
	}
	return 0;
}
