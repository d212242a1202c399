// healthy KIND: processes that sleep, and look deadlocked to the hasty.
//
// KIND: accept, poll, poll-timeout, select, epoll, pause, sigwait, read, busy, waitpid: what it says
//   futex-timeout  a wait for a semaphore with a limit of an hour
//   sem-signal     the only thread waits for a semaphore that the handler of SIGUSR1 posts
//   clone-vm       so it does, and a process that shares its memory (CLONE_VM) will post it
//   shared-futex   it waits for a semaphore in shared memory that another process will post
//   shared-private-op  it waits at a word of shared memory, by the operation for private memory
//   shared-mutex   it waits for a process-shared mutex that its parent holds and will release
//   vfork          it waits for its vfork child, which sleeps
//   mixed          one thread in poll, seven in futexes
//   sleeper        main joins a thread that sleeps
//   timed-loop     waits of 5 ms for a condition, over and over, as CPython's for its lock
//   cycle-timed    two threads want each other's mutex, with a limit of an hour
//   survivor       the child of a fork: one thread waits for a mutex that the
//                  survivor took before the fork, under its old thread ID, and holds
//                  while it sleeps in poll
//
// Shows: none of these is a deadlock. It writes "ready kind=KIND pid=PID other=PID"
// when it is about to sleep; pid is the process to look at, other the one beside
// it that will wake it (0: none). SIGUSR2 to other, where there is one, or SIGUSR1 to pid
// for sem-signal, ends the wait: it then writes "woken".
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>

static const char *kind;
static pid_t other;
static sem_t g_sem;
static sem_t *g_shared;
static pthread_mutex_t *g_shared_mutex;
static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER, g_second = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t g_cond = PTHREAD_COND_INITIALIZER;
static char stack[256 << 10] __attribute__((aligned(16)));

static int is(const char *name) { return strcmp(kind, name) == 0; }

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static void ready(void)
{
	char line[128];
	snprintf(line, sizeof line, "ready kind=%s pid=%d other=%d\n", kind, getpid(), other);
	say(line);
}

static struct timespec in_an_hour(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 3600;
	return t;
}

static void on_usr1(int sig)
{
	(void)sig;
	sem_post(&g_sem);
}

static void on_usr2(int sig) { (void)sig; }

static void *in_poll(void *unused)
{
	poll(NULL, 0, -1);
	return unused;
}

static void *in_sleep(void *unused)
{
	sleep(3600);
	return unused;
}

static void *in_futex(void *unused)
{
	sem_wait(&g_sem);
	return unused;
}

static void *in_mutex(void *unused)
{
	pthread_mutex_lock(&g_mutex);
	return unused;
}

static void *in_cycle(void *unused)
{
	struct timespec t = in_an_hour();
	pthread_mutex_lock(&g_second);
	sem_post(&g_sem);
	pthread_mutex_timedlock(&g_mutex, &t);
	return unused;
}

static int post_later(void *sem)
{
	pause();
	sem_post(sem);
	for (;;)
		pause();
	return 0;
}

static void thread(void *(*fn)(void *))
{
	pthread_t t;
	if (pthread_create(&t, NULL, fn, NULL))
		die("pthread_create");
}

static void wait_sem(sem_t *sem)
{
	while (sem_wait(sem))
		if (errno != EINTR)
			die("sem_wait");
	say("woken\n");
	for (;;)
		pause();
}

static int listener(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof addr) || listen(fd, 5))
		die("listen");
	return fd;
}

static void survivor(void)
{
	pthread_mutex_lock(&g_mutex);
	other = 0;
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		thread(in_mutex);
		ready();
		poll(NULL, 0, 3600 * 1000);
		pthread_mutex_unlock(&g_mutex);
	}
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	struct sigaction usr1 = {.sa_handler = on_usr1}, usr2 = {.sa_handler = on_usr2};
	struct timespec hour = in_an_hour();
	struct epoll_event event;
	fd_set set;
	int fds[2];

	if (argc != 2) {
		fprintf(stderr, "usage: healthy KIND\n");
		return 2;
	}
	kind = argv[1];
	sem_init(&g_sem, 0, 0);
	if (is("sem-signal"))
		sigaction(SIGUSR1, &usr1, NULL);
	sigaction(SIGUSR2, &usr2, NULL);
	g_shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (g_shared == MAP_FAILED || pipe(fds))
		die("mmap, pipe");
	sem_init(g_shared, 1, 0);
	g_shared_mutex = (pthread_mutex_t *)((char *)g_shared + 4096);

	if (is("accept")) {
		int fd = listener();
		ready();
		accept(fd, NULL, NULL);
	} else if (is("poll")) {
		struct pollfd p = {.fd = fds[0], .events = POLLIN};
		ready();
		poll(&p, 1, -1);
	} else if (is("poll-timeout")) {
		ready();
		poll(NULL, 0, 3600 * 1000);
	} else if (is("select")) {
		FD_ZERO(&set);
		FD_SET(fds[0], &set);
		ready();
		select(fds[0] + 1, &set, NULL, NULL, NULL);
	} else if (is("epoll")) {
		int ep = epoll_create1(0);
		ready();
		epoll_wait(ep, &event, 1, -1);
	} else if (is("pause")) {
		ready();
		pause();
	} else if (is("sigwait")) {
		sigset_t sigs;
		int sig;
		sigemptyset(&sigs);
		sigaddset(&sigs, SIGTERM);
		sigprocmask(SIG_BLOCK, &sigs, NULL);
		ready();
		sigwait(&sigs, &sig);
	} else if (is("read")) {
		char byte;
		ready();
		if (read(fds[0], &byte, 1) < 0)
			die("read");
	} else if (is("busy")) {
		ready();
		for (volatile unsigned n = 0;; n++)
			;
	} else if (is("waitpid")) {
		other = fork();
		if (other == 0)
			for (;;)
				pause();
		ready();
		waitpid(other, NULL, 0);
	} else if (is("futex-timeout")) {
		ready();
		sem_timedwait(&g_sem, &hour);
	} else if (is("sem-signal")) {
		ready();
		wait_sem(&g_sem);
	} else if (is("clone-vm")) {
		other = clone(post_later, stack + sizeof stack, CLONE_VM | SIGCHLD, &g_sem);
		if (other < 0)
			die("clone");
		ready();
		wait_sem(&g_sem);
	} else if (is("shared-futex")) {
		other = fork();
		if (other == 0)
			post_later(g_shared);
		ready();
		wait_sem(g_shared);
	} else if (is("shared-private-op")) {
		int *word = (int *)((char *)g_shared + 4096);
		ready();
		syscall(SYS_futex, word, 128 /* FUTEX_WAIT_PRIVATE */, 0, NULL, NULL, 0);
	} else if (is("shared-mutex")) {
		pthread_mutexattr_t attr;
		pthread_mutexattr_init(&attr);
		pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
		pthread_mutex_init(g_shared_mutex, &attr);
		pthread_mutex_lock(g_shared_mutex);
		other = getpid();
		pid_t pid = fork();
		if (pid == 0) {
			ready();
			pthread_mutex_lock(g_shared_mutex);
			say("woken\n");
			for (;;)
				pause();
		}
		pause();
		pthread_mutex_unlock(g_shared_mutex);
		for (;;)
			pause();
	} else if (is("vfork")) {
		ready();
		if (vfork() == 0) {
			poll(NULL, 0, -1);
			_exit(0);
		}
	} else if (is("mixed")) {
		for (int i = 0; i < 7; i++)
			thread(in_futex);
		ready();
		in_poll(NULL);
	} else if (is("sleeper")) {
		pthread_t t;
		if (pthread_create(&t, NULL, in_sleep, NULL))
			die("pthread_create");
		ready();
		pthread_join(t, NULL);
	} else if (is("timed-loop")) {
		ready();
		pthread_mutex_lock(&g_mutex);
		for (;;) {
			struct timespec t;
			clock_gettime(CLOCK_REALTIME, &t);
			t.tv_nsec += 5000000;
			if (t.tv_nsec >= 1000000000) {
				t.tv_nsec -= 1000000000;
				t.tv_sec++;
			}
			pthread_cond_timedwait(&g_cond, &g_mutex, &t);
		}
	} else if (is("cycle-timed")) {
		pthread_mutex_lock(&g_mutex);
		thread(in_cycle);
		while (sem_wait(&g_sem))
			;
		ready();
		pthread_mutex_timedlock(&g_second, &hour);
	} else if (is("survivor")) {
		survivor();
	} else {
		fprintf(stderr, "healthy: no such kind: %s\n", kind);
		return 2;
	}
	for (;;)
		pause();
}
