/* What runs inside a probe's own process. */
#include "server.h"

#include <dlfcn.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

enum { hammers = 2 };

/* One cache line each: they are written all the time. */
static struct {
	volatile unsigned inside;
	volatile unsigned rounds;
	char line[56];
} place[hammers];

static void (*hammered)(void);
static unsigned resting;
static int wanted;

void enter(int thread) { place[thread].inside = 1; }

void leave(int thread)
{
	place[thread].inside = 0;
	place[thread].rounds++;
}

static void *hammer(void *arg)
{
	int n = (int)(long)arg;
	for (;;) {
		enter(n);
		hammered();
		leave(n);
		if (resting)
			usleep(resting);
	}
	return NULL;
}

static void start(void *(*body)(void *), long arg)
{
	pthread_t t;
	errno = pthread_create(&t, NULL, body, (void *)arg);
	if (errno)
		refused("pthread_create");
}

void born(void)
{
	/* Dies with its parent; getppid tells whether that was too late. */
	pid_t parent = state->subject;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(0);
}

void raced(void) { state->races = 1; }

void went_on(void) { state->moves++; }

void reached(void)
{
	int inside = 0;
	for (int i = 0; i < hammers; i++)
		inside |= place[i].inside;
	state->reached += inside;
}

static void child(void (*call)(void))
{
	born();
	reached();
	call();
	_exit(0);
}

pid_t forked(pid_t (*how)(void))
{
	pid_t pid = how();
	if (pid < 0)
		refused("fork");
	return pid;
}

void expect(int signal) { wanted = signal; }

void collect(pid_t pid)
{
	int status;
	state->child = pid;
	state->forks++;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			wrong("the child could not be waited for: %s", strerror(errno));
	state->child = 0;
	if (WIFSIGNALED(status) && WTERMSIG(status) != wanted) {
		state->signal = WTERMSIG(status);
		state->result = crashed;
		_exit(0);
	}
	if (wanted && !WIFSIGNALED(status))
		wrong("the child should have ended by signal %d", wanted);
	if (WIFEXITED(status) && WEXITSTATUS(status)) {
		if (state->result == none)
			wrong("the child ended with status %d", WEXITSTATUS(status));
		_exit(0);
	}
}

int used_up(void)
{
	if (state->control) {
		while (now() < state->deadline)
			poll(NULL, 0, 1);
		return 1;
	}
	return state->forks >= state->most || now() >= state->deadline;
}

void rest(unsigned microseconds) { resting = microseconds; }

void enough(void) { state->most = 0; }

void once(void (*call)(void))
{
	pid_t pid = forked(fork);
	if (pid == 0)
		child(call);
	collect(pid);
}

void race(void (*body)(void), void (*call)(void))
{
	raced();
	hammered = body;
	for (int i = 0; i < hammers; i++)
		start(hammer, i);
	for (int i = 0; i < hammers; i++)
		while (!place[i].inside && !place[i].rounds && !used_up())
			poll(NULL, 0, 1);
	while (!used_up())
		once(call);
}

static pthread_mutex_t never = PTHREAD_MUTEX_INITIALIZER;

void for_ever(void) { pthread_mutex_lock(&never); }

static void *idler(void *arg)
{
	*(volatile int *)arg = 1;
	for_ever();
	return NULL;
}

void idle(int n)
{
	pthread_mutex_lock(&never);
	for (int i = 0; i < n; i++) {
		volatile int there = 0;
		start(idler, (long)&there);
		while (!there)
			poll(NULL, 0, 1);
	}
}

static void finish(enum result result, const char *format, va_list args)
{
	vsnprintf(state->text, sizeof state->text, format, args);
	state->result = result;
	_exit(1);
}

void wrong(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	finish(differs, format, args);
	_exit(1);
}

void absent(const char *what)
{
	snprintf(state->text, sizeof state->text, "this libc has no %s", what);
	state->result = missing;
	_exit(1);
}

void refused(const char *what)
{
	snprintf(state->text, sizeof state->text, "%s: %s", what, strerror(errno));
	state->result = denied;
	_exit(1);
}

extern const char library_start[], library_end[];
__asm__(".section .rodata\n"
	".globl library_start, library_end\n"
	"library_start: .incbin \"library.so\"\n"
	"library_end:\n"
	".previous");

const char *library_path(int n)
{
	static char path[4][32];
	size_t size = (size_t)(library_end - library_start);
	if (path[n][0])
		return path[n];
	int fd = (int)syscall(SYS_memfd_create, "forkproof-library", 0);
	if (fd < 0)
		refused("memfd_create");
	if (write(fd, library_start, size) != (ssize_t)size)
		refused("write the probe's library");
	snprintf(path[n], sizeof path[n], "/proc/self/fd/%d", fd);
	return path[n];
}

void *library(int n)
{
	void *handle = dlopen(library_path(n), RTLD_NOW);
	if (!handle) {
		snprintf(state->text, sizeof state->text, "dlopen: %s", dlerror());
		state->result = denied;
		_exit(1);
	}
	return handle;
}

int register_from(void *handle, void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	int (*handlers)(void (*)(void), void (*)(void), void (*)(void)) = dlsym(handle, "handlers");
	return handlers ? handlers(prepare, parent, child) : ENOSYS;
}

FILE *null_stream(void)
{
	FILE *f = fopen("/dev/null", "w");
	if (!f)
		refused("open /dev/null");
	return f;
}

const char *semaphore_name(void) { return state->semaphore; }

void *function(const char *name) { return dlsym(RTLD_DEFAULT, name); }
