// lockzoo KIND MODE: one lock of each kind that is held by another thread at a
// fork, and a child that wants it or does not.
//
// KIND: normal, recursive, errorcheck, adaptive, robust, pi, rwlock-writer (held
//   for writing, wanted for reading), rwlock-writers (held and wanted for
//   writing), rwlock-readers (held for reading, wanted for writing), spin, sem, cond (nobody signals), barrier (nobody comes), join
//   (a thread that vanished), stdio (a FILE's lock, after a _Fork or raw clone
//   that no fork handler sees), stderr (the same of that FILE), tz (glibc's time zone lock: the thread is reading
//   a zone file which is a FIFO; musl does not wait for one).
// MODE: stuck   the child's only thread waits for the lock
//       crowd   so do three more threads of the child
//       beside  another thread of the child sleeps in poll, with a timeout
//       armed   the child sleeps in pause and does not want the lock
//       free    the thread gave the lock back before the fork; the child takes
//               it, gives it back and sleeps in pause
//
// Shows: what each lock looks like in memory, and to /proc, when its owner is no
// thread of the process. When all is in place but the waiting itself, it writes
//   ready kind=KIND mode=MODE parent=PID child=PID holder=TID main=TID lock=0xADDR
// with PIDs and TIDs of its own namespace; holder is 0 where nobody holds it,
// and lock is 0 where the address is the C library's own business.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

union {
	pthread_mutex_t mutex;
	pthread_rwlock_t rwlock;
	pthread_spinlock_t spin;
	pthread_barrier_t barrier;
	sem_t sem;
	struct {
		pthread_mutex_t mutex;
		pthread_cond_t cond;
	} cond;
} g_lock;

static FILE *stream;
static pthread_t holder;
static pid_t holder_tid;
static const char *kind, *mode;
static sem_t held;
static char zone[PATH_MAX];

static void check(int error, const char *what)
{
	if (error) {
		fprintf(stderr, "lockzoo: %s: %s\n", what, strerror(error));
		_exit(1);
	}
}

static int is(const char *name) { return strcmp(kind, name) == 0; }
static int mode_is(const char *name) { return strcmp(mode, name) == 0; }

static void make(void)
{
	pthread_mutexattr_t attr;
	int type = -1;

	check(pthread_mutexattr_init(&attr), "pthread_mutexattr_init");
	if (is("normal"))
		type = PTHREAD_MUTEX_NORMAL;
	else if (is("recursive"))
		type = PTHREAD_MUTEX_RECURSIVE;
	else if (is("errorcheck"))
		type = PTHREAD_MUTEX_ERRORCHECK;
#ifdef __GLIBC__
	else if (is("adaptive"))
		type = PTHREAD_MUTEX_ADAPTIVE_NP;
#endif
	if (type != -1) {
		check(pthread_mutexattr_settype(&attr, type), "pthread_mutexattr_settype");
		check(pthread_mutex_init(&g_lock.mutex, &attr), "pthread_mutex_init");
	} else if (is("robust")) {
		check(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST), "pthread_mutexattr_setrobust");
		check(pthread_mutex_init(&g_lock.mutex, &attr), "pthread_mutex_init");
	} else if (is("pi")) {
		check(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT), "pthread_mutexattr_setprotocol");
		check(pthread_mutex_init(&g_lock.mutex, &attr), "pthread_mutex_init");
	} else if (is("rwlock-writer") || is("rwlock-writers") || is("rwlock-readers")) {
		check(pthread_rwlock_init(&g_lock.rwlock, NULL), "pthread_rwlock_init");
	} else if (is("spin")) {
		check(pthread_spin_init(&g_lock.spin, PTHREAD_PROCESS_PRIVATE), "pthread_spin_init");
	} else if (is("sem")) {
		check(sem_init(&g_lock.sem, 0, 1) ? errno : 0, "sem_init");
	} else if (is("cond")) {
		check(pthread_mutex_init(&g_lock.cond.mutex, NULL), "pthread_mutex_init");
		check(pthread_cond_init(&g_lock.cond.cond, NULL), "pthread_cond_init");
	} else if (is("barrier")) {
		check(pthread_barrier_init(&g_lock.barrier, NULL, mode_is("free") ? 1 : 9), "pthread_barrier_init");
	} else if (is("stdio") || is("stderr")) {
		stream = is("stderr") ? stderr : fopen("/dev/null", "w");
		check(stream ? 0 : errno, "fopen");
	} else if (is("tz")) {
		if (!mode_is("free")) {
			strcpy(zone, ":/tmp/lockzoo-XXXXXX");
			check(mkdtemp(zone + 1) ? 0 : errno, "mkdtemp");
			strcat(zone, "/zone");
			check(mkfifo(zone + 1, 0600) ? errno : 0, "mkfifo");
		} else {
			strcpy(zone, "UTC0");
		}
		check(setenv("TZ", zone, 1) ? errno : 0, "setenv");
	} else if (!is("join")) {
		check(EINVAL, kind);
	}
}

static void *address(void)
{
	if (is("join") || is("tz"))
		return NULL;
	if (is("stdio") || is("stderr"))
		return stream;
	if (is("cond"))
		return &g_lock.cond.cond;
	return &g_lock;
}

// take does what a user of the lock does, but for giving it back.
static void take(void)
{
	struct tm tm;
	time_t now = 0;

	if (is("rwlock-writer") || is("rwlock-writers"))
		check(pthread_rwlock_wrlock(&g_lock.rwlock), "pthread_rwlock_wrlock");
	else if (is("rwlock-readers"))
		check(pthread_rwlock_rdlock(&g_lock.rwlock), "pthread_rwlock_rdlock");
	else if (is("spin"))
		check(pthread_spin_lock(&g_lock.spin), "pthread_spin_lock");
	else if (is("sem"))
		check(sem_wait(&g_lock.sem) ? errno : 0, "sem_wait");
	else if (is("stdio") || is("stderr"))
		flockfile(stream);
	else if (is("tz"))
		localtime_r(&now, &tm); // does not return while the FIFO has no writer
	else if (!is("cond") && !is("barrier") && !is("join"))
		check(pthread_mutex_lock(&g_lock.mutex), "pthread_mutex_lock");
}

static void give(void)
{
	if (is("rwlock-writer") || is("rwlock-writers") || is("rwlock-readers"))
		check(pthread_rwlock_unlock(&g_lock.rwlock), "pthread_rwlock_unlock");
	else if (is("spin"))
		check(pthread_spin_unlock(&g_lock.spin), "pthread_spin_unlock");
	else if (is("sem"))
		check(sem_post(&g_lock.sem) ? errno : 0, "sem_post");
	else if (is("stdio") || is("stderr"))
		funlockfile(stream);
	else if (!is("cond") && !is("barrier") && !is("join") && !is("tz"))
		check(pthread_mutex_unlock(&g_lock.mutex), "pthread_mutex_unlock");
}

// want waits for what the vanished thread has, or was to do.
static void want(void)
{
	if (is("rwlock-writer"))
		check(pthread_rwlock_rdlock(&g_lock.rwlock), "pthread_rwlock_rdlock");
	else if (is("rwlock-readers"))
		check(pthread_rwlock_wrlock(&g_lock.rwlock), "pthread_rwlock_wrlock");
	else if (is("cond") && !mode_is("free")) {
		check(pthread_mutex_lock(&g_lock.cond.mutex), "pthread_mutex_lock");
		check(pthread_cond_wait(&g_lock.cond.cond, &g_lock.cond.mutex), "pthread_cond_wait");
	} else if (is("barrier")) {
		pthread_barrier_wait(&g_lock.barrier);
		__asm__ volatile(""); // no jump in place of the call: musl's stack tells the kind
	} else if (is("join") && !mode_is("free"))
		pthread_join(holder, NULL);
	else if (is("stdio") || is("stderr")) {
		fputs("hello\n", stream);
		flockfile(stream);
	} else
		take();
}

static void *hold(void *unused)
{
	holder_tid = syscall(SYS_gettid);
	prctl(PR_SET_NAME, "holder");
	// take does not return with the time zone lock, but for the free one: that must
	// be given back before the fork, too.
	if (is("tz") && !mode_is("free"))
		sem_post(&held);
	take();
	if (mode_is("free"))
		give();
	if (!is("tz") || mode_is("free"))
		sem_post(&held);
	for (;;)
		pause();
	return unused;
}

static void *crowd(void *unused)
{
	want();
	for (;;)
		pause();
	return unused;
}

static void *beside(void *unused)
{
	for (;;)
		poll(NULL, 0, 3600 * 1000);
	return unused;
}

static void child(int ready)
{
	pthread_t thread;

	if (mode_is("crowd"))
		for (int i = 0; i < 3; i++)
			check(pthread_create(&thread, NULL, crowd, NULL), "pthread_create");
	if (mode_is("beside"))
		check(pthread_create(&thread, NULL, beside, NULL), "pthread_create");
	if (write(ready, "", 1) != 1)
		_exit(1);
	if (mode_is("armed"))
		for (;;)
			pause();
	want();
	if (mode_is("free")) {
		if (is("rwlock-readers") || is("rwlock-writer") || is("rwlock-writers") || is("sem") || is("spin") || address() == &g_lock.mutex)
			give();
	} else
		fprintf(stderr, "lockzoo: got what nobody can have given\n");
	for (;;)
		pause();
}

static void slurp(const char *path, char *to, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, to, size - 1);

	to[n > 0 ? n : 0] = 0;
	close(fd);
}

// await_fifo waits until the thread is inside the open of a FIFO without a
// writer, with the time zone lock in its hand.
static void await_fifo(void)
{
	char path[64], call[512], stat[512];

	// Opening a file on a disk waits in state D; in S only a FIFO does.
	do {
		usleep(1000);
		snprintf(path, sizeof path, "/proc/self/task/%d/syscall", holder_tid);
		slurp(path, call, sizeof call);
		snprintf(path, sizeof path, "/proc/self/task/%d/stat", holder_tid);
		slurp(path, stat, sizeof stat);
	} while (atol(call) != SYS_openat || strstr(stat, ") S ") == NULL);
}

// bare_fork forks without the handlers that would repair the locks of streams:
// by _Fork where the library has it (glibc 2.34, musl 1.2.2), else by the system
// call, which leaves the library's record of the thread stale.
static pid_t bare_fork(void)
{
	pid_t (*fork_only)(void) = (pid_t (*)(void))dlsym(RTLD_DEFAULT, "_Fork");

	if (fork_only)
		return fork_only();
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

int main(int argc, char **argv)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (argc != 3) {
		fprintf(stderr, "usage: lockzoo KIND MODE\n");
		return 2;
	}
	kind = argv[1];
	mode = argv[2];
	make();
	check(sem_init(&held, 0, 0) ? errno : 0, "sem_init");
	check(pipe(ready) ? errno : 0, "pipe");
	check(pthread_create(&holder, NULL, hold, NULL), "pthread_create");
	while (sem_wait(&held))
		;
	if (is("tz") && !mode_is("free"))
		await_fifo();
	pid = is("stdio") || is("stderr") ? bare_fork() : fork();
	check(pid < 0 ? errno : 0, "fork");
	if (pid == 0)
		child(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		return 1;
	printf("ready kind=%s mode=%s parent=%d child=%d holder=%d main=%d lock=%p\n", kind, mode, getpid(), pid,
		is("cond") || is("barrier") ? 0 : holder_tid, (int)syscall(SYS_gettid), address());
	fflush(stdout);
	for (;;)
		pause();
}
