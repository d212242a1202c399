// redteam KIND: healthy processes that wait for a lock as the hung do, and are
// let go by what is not seen in the lock.
//
// KIND:
//   mutex-signal   main locks a mutex twice, and sleeps so until a thread unlocks it
//   alarm-relock   the only thread locks a mutex twice; SIGALRM takes it out of that by siglongjmp
//   alarm-cycle    two threads want each other's mutex; SIGALRM takes one of them out of it
//   alarm-orphan   a forked child waits for the mutex of a vanished thread, with SIGALRM as its limit
//   timer-relock   alarm-relock by a timer of timer_create and SIGUSR1
//   handler-relock the only thread locks a mutex twice, and the handler of SIGUSR1 unlocks it
//   pi-orphan      a forked child waits for the robust, priority-inheriting mutex of a
//                  vanished thread: the kernel gives it on when that ends in the parent
//   own-list       main wants a stream's lock; its holder has a list of robust mutexes of its own
//   uring          the only thread waits for a word into which io_uring will read from an eventfd
//   new-pids       the only thread took a mutex, and forked into a new PID namespace, where
//                  another thread has its old number and waits for the mutex
//
// Shows: none of these is a deadlock. It writes "ready kind=KIND pid=PID other=PID"
// when it is about to sleep, by its own numbers. What ends the wait is SIGALRM to
// pid where the kind begins with alarm, SIGUSR1 to pid for timer-relock and handler-relock,
// else SIGUSR2 to other (the same process, but for uring and pi-orphan); then it writes "woken".
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *kind;
static pid_t other;
static pthread_mutex_t g_mutex = PTHREAD_MUTEX_INITIALIZER, g_second = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t g_all;
static sigjmp_buf g_out;
static FILE *g_stream;
static sigset_t usr2;

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
	snprintf(line, sizeof line, "ready kind=%s pid=%d other=%d\n", kind, getpid(), other ? other : getpid());
	say(line);
}

static void await_usr2(void)
{
	int sig;
	sigwait(&usr2, &sig);
}

static void leave(int sig)
{
	(void)sig;
	siglongjmp(g_out, 1);
}

static void in_the_end(void)
{
	say("woken\n");
	for (;;)
		pause();
}

static void unlock(int sig)
{
	(void)sig;
	pthread_mutex_unlock(&g_mutex);
}

static void limit(void)
{
	signal(SIGALRM, leave);
	alarm(3600);
}

static void thread(void *(*fn)(void *))
{
	pthread_t t;
	sigset_t most, was;
	sigfillset(&most);
	pthread_sigmask(SIG_BLOCK, &most, &was);
	if (pthread_create(&t, NULL, fn, NULL))
		die("pthread_create");
	pthread_sigmask(SIG_SETMASK, &was, NULL);
}

static void *unlock_later(void *unused)
{
	await_usr2();
	pthread_mutex_unlock(&g_mutex);
	return unused;
}

static void *in_cycle(void *unused)
{
	pthread_mutex_lock(&g_second);
	pthread_barrier_wait(&g_all);
	pthread_mutex_lock(&g_mutex);
	in_the_end();
	return unused;
}

static void *hold(void *unused)
{
	pthread_mutex_lock(&g_mutex);
	pthread_barrier_wait(&g_all);
	for (;;)
		pause();
	return unused;
}

static void *end_later(void *unused)
{
	pthread_mutex_lock(&g_mutex);
	pthread_barrier_wait(&g_all);
	await_usr2();
	return unused;
}

static void *want(void *unused)
{
	pthread_mutex_lock(&g_mutex);
	in_the_end();
	return unused;
}

static void *hold_stream(void *unused)
{
	static struct robust_list_head head = {.list = {&head.list}};
	syscall(SYS_set_robust_list, &head, sizeof head);
	flockfile(g_stream);
	pthread_barrier_wait(&g_all);
	await_usr2();
	funlockfile(g_stream);
	for (;;)
		pause();
	return unused;
}

// The parts of <linux/io_uring.h> that are used here.
struct params {
	uint32_t sq_entries, cq_entries, flags, more[7];
	struct { uint32_t head, tail, mask, entries, flags, dropped, array, unused; uint64_t addr; } sq;
	uint64_t cq[5];
};
struct entry {
	uint8_t op, flags;
	uint16_t prio;
	int32_t fd;
	uint64_t off, addr;
	uint32_t len, more;
	uint64_t data;
	uint64_t rest[3];
};
enum { OP_READ = 22 };

static void uring(void)
{
	static union { uint64_t count; uint32_t word; } g;
	struct params p = {0};
	int fd = eventfd(0, 0);
	int ring = syscall(425 /* io_uring_setup */, 4, &p);
	if (ring < 0) {
		say("no io_uring\n");
		exit(0);
	}
	char *sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, 0);
	struct entry *e = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, 0x10000000);
	if (sq == MAP_FAILED || e == MAP_FAILED)
		die("mmap");
	e[0] = (struct entry){.op = OP_READ, .fd = fd, .addr = (uint64_t)&g.count, .len = 8};
	uint32_t *array = (uint32_t *)(sq + p.sq.array);
	array[0] = 0;
	*(uint32_t *)(sq + p.sq.tail) = 1;
	if (syscall(426 /* io_uring_enter */, ring, 1, 0, 0, NULL, 0) != 1)
		die("io_uring_enter");
	other = fork();
	if (other == 0) {
		uint64_t one = 1;
		close(ring);
		await_usr2();
		if (write(fd, &one, 8) != 8)
			die("write");
		for (;;)
			pause();
	}
	ready();
	// The completion makes the thread leave its sleep for a moment, and begin the
	// wait again, which the new value ends.
	while (g.word == 0)
		syscall(SYS_futex, &g.word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	in_the_end();
}

static void new_pids(void)
{
	// The first of a namespace has the number 1, the next 2, and so has the second
	// thread of the first of another.
	if (unshare(CLONE_NEWPID))
		die("unshare");
	if (fork() == 0) {
		if (fork() == 0) {
			pthread_mutex_lock(&g_mutex);
			if (unshare(CLONE_NEWPID))
				die("unshare");
			if (fork() == 0) {
				thread(want);
				ready();
				await_usr2();
				pthread_mutex_unlock(&g_mutex);
			}
		}
	}
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: redteam KIND\n");
		return 2;
	}
	kind = argv[1];
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &usr2, NULL);
	pthread_barrier_init(&g_all, NULL, 2);

	if (is("mutex-signal")) {
		pthread_mutex_lock(&g_mutex);
		thread(unlock_later);
		ready();
		pthread_mutex_lock(&g_mutex);
		in_the_end();
	} else if (is("alarm-relock")) {
		limit();
		pthread_mutex_lock(&g_mutex);
		if (sigsetjmp(g_out, 1))
			in_the_end();
		ready();
		pthread_mutex_lock(&g_mutex);
	} else if (is("alarm-cycle")) {
		limit();
		pthread_mutex_lock(&g_mutex);
		if (sigsetjmp(g_out, 1)) {
			pthread_mutex_unlock(&g_mutex);
			for (;;)
				pause();
		}
		thread(in_cycle);
		pthread_barrier_wait(&g_all);
		ready();
		pthread_mutex_lock(&g_second);
	} else if (is("alarm-orphan")) {
		thread(hold);
		pthread_barrier_wait(&g_all);
		if (fork() == 0) {
			limit();
			if (sigsetjmp(g_out, 1))
				in_the_end();
			ready();
			pthread_mutex_lock(&g_mutex);
		}
	} else if (is("timer-relock")) {
		struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
		struct itimerspec hour = {.it_value.tv_sec = 3600};
		timer_t timer;
		signal(SIGUSR1, leave);
		if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &hour, NULL))
			die("timer");
		pthread_mutex_lock(&g_mutex);
		if (sigsetjmp(g_out, 1))
			in_the_end();
		ready();
		pthread_mutex_lock(&g_mutex);
	} else if (is("handler-relock")) {
		signal(SIGUSR1, unlock);
		pthread_mutex_lock(&g_mutex);
		ready();
		pthread_mutex_lock(&g_mutex);
		in_the_end();
	} else if (is("pi-orphan")) {
		pthread_mutexattr_t attr;
		pthread_mutexattr_init(&attr);
		pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
		pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
		pthread_mutex_init(&g_mutex, &attr);
		thread(end_later);
		pthread_barrier_wait(&g_all);
		other = getpid();
		if (fork() == 0) {
			ready();
			if (pthread_mutex_lock(&g_mutex) == EOWNERDEAD)
				in_the_end();
		}
	} else if (is("own-list")) {
		g_stream = fopen("/dev/null", "w");
		thread(hold_stream);
		pthread_barrier_wait(&g_all);
		ready();
		fputs("x", g_stream);
		in_the_end();
	} else if (is("uring")) {
		uring();
	} else if (is("new-pids")) {
		new_pids();
	} else {
		fprintf(stderr, "redteam: no such kind: %s\n", kind);
		return 2;
	}
	for (;;)
		pause();
}
