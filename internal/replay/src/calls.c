/* The calls that a program can be made of: the verbs of internal/model/scenario. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <malloc.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "replay.h"

static pthread_mutex_t lock[most_locks];
static sem_t semaphore[most_semaphores];
static FILE *stream[most_streams], *stopping[most_threads];
static char buffer[most_streams + 1 + most_threads][4096], much[65536];

static void check(int ok)
{
	if (!ok)
		record(fails);
}

/* Locks and semaphores of one's own. */
static void make_lock(int n)
{
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, program.lock[n] == 'r' ? PTHREAD_MUTEX_RECURSIVE : program.lock[n] == 'e' ? PTHREAD_MUTEX_ERRORCHECK : PTHREAD_MUTEX_NORMAL);
	pthread_mutex_init(&lock[n], &a);
}

static void run_lock(int n) { check(!pthread_mutex_lock(&lock[n])); }
static void run_unlock(int n) { check(!pthread_mutex_unlock(&lock[n])); }
static void run_post(int n) { check(!sem_post(&semaphore[n])); }

static void run_await(int n)
{
	while (sem_wait(&semaphore[n]) && errno == EINTR)
		;
}

static void run_join(int n) { check(!pthread_join(thread_of[n], NULL)); }

/* Memory. Sizes are above what a thread keeps for itself without a lock (glibc's
 * tcache, 1032 bytes) and below what gets a mapping of its own. musl frees without
 * its lock what lies beside something free, so there each block is one that it maps
 * alone. */
#ifdef __GLIBC__
enum { spare_size = 2000 };
#else
enum { spare_size = 200000 };
#endif
static void *volatile kept;
static __thread void *spare[32];
static __thread int spares;

static void run_malloc(int n)
{
	(void)n;
	if (!armed()) {
		kept = malloc(3000);
		return;
	}
	/* Until libc needs more from the kernel. glibc's arenas begin with 132 KiB,
	 * and it maps by itself what has 128 KiB or more; musl maps each block of
	 * this size, under its lock. */
	for (int i = 0; i < 64 && armed(); i++)
		kept = malloc(100000);
}

static void run_free(int n)
{
	(void)n;
	if (spares > 0)
		free(spare[--spares]);
	else
		record(misses);
}

static void run_realloc(int n)
{
	(void)n;
	if (spares > 0)
		kept = realloc(spare[--spares], 9000);
	else
		record(misses);
}

/* Streams. The program's are read, for lines of 20000 bytes. */
static ssize_t line(void *cookie, char *text, size_t size)
{
	static _Thread_local int given;
	(void)cookie;
	callback();
	memset(text, 'x', size);
	given += size;
	if (given >= 20000) {
		text[size - 1] = '\n';
		given = 0;
	}
	return size;
}

/* Those of the program, then the three that every program has. */
static FILE *stream_at(int n)
{
	n -= program.streams;
	return n < 0 ? stream[n + program.streams] : n == 0 ? stdin : n == 1 ? stdout : stderr;
}

static void run_getline(int n)
{
	char *text = NULL;
	size_t size = 0;
	/* The line is not freed: that is a call of its own. */
	check(getline(&text, &size, stream_at(n)) > 0);
}

static ssize_t written(void *cookie, const char *text, size_t size)
{
	(void)cookie;
	(void)text;
	callback();
	return size;
}

static FILE *make_stream(const char *mode, char *its)
{
	FILE *f = fopencookie(NULL, mode, (cookie_io_functions_t){.read = line, .write = written});
	if (!f || setvbuf(f, its, _IOFBF, sizeof *buffer))
		_exit(124);
	return f;
}

static void run_printf(int n)
{
	(void)n;
	if (armed())
		fwrite(much, sizeof much, 1, stdout);
	else
		printf("%d\n", 1);
}

static void run_fflush(int n) { fflush(stream_at(n)); }

static void run_flush_all(int n)
{
	(void)n;
	/* A stream that no other thread uses has something to write, and those are the
	 * first of libc's list: the stop is where only the list's lock is held, and its
	 * own. Another thread that flushes all at once may have written it meanwhile. */
	do {
		if (armed())
			putc_unlocked('x', stopping[me]);
		fflush(NULL);
	} while (armed());
}

static void run_flockfile(int n) { flockfile(stream_at(n)); }
static void run_funlockfile(int n) { funlockfile(stream_at(n)); }

/* Fork and its handlers. */
enum { deepest = 2 }; /* as in internal/model/compile.go */
static __thread int within_handlers;

static void run_fork(int function);

/* A handler that forks would run itself without end. */
int left_out(const struct call *c) { return c->verb->run == run_fork && within_handlers >= deepest; }

static void run_fork(int function)
{
	int outer = begin_fork();
	switch (fork()) {
	case -1:
		record(fails);
		break;
	case 0:
		record(returns);
		run_function(function);
		_exit(0);
	}
	end_fork(outer);
}

void replay_handler(int handler, int which);
void replay_handler(int handler, int which)
{
	within_handlers++;
	run_function(program.handler[handler].function[which]);
	within_handlers--;
}

#define TRAMPOLINES(n)                                         \
	static void prepare_##n(void) { replay_handler(n, 0); } \
	static void parent_##n(void) { replay_handler(n, 1); }  \
	static void child_##n(void) { replay_handler(n, 2); }
#define NAMES(n) {prepare_##n, parent_##n, child_##n},
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
EACH(TRAMPOLINES)
static void (*const trampolines[most_handlers][3])(void) = {EACH(NAMES)};

/* Libraries: copies of one. It calls back when it is loaded and unloaded. */
extern const char library_start[], library_end[];
__asm__(".section .rodata\n"
	".globl library_start, library_end\n"
	"library_start: .incbin \"library.so\"\n"
	"library_end:\n"
	".previous\n");
static char path[most_libraries][32];
static struct {
	void *handle;
	int opens;
	void (*add)(int handler, int which);
	void (*enter)(int function);
	int (*here)(void);
} library[most_libraries];
static void *own; /* the program's handle */

int replay_loading;
void replay_loaded(void (*add)(int handler, int which), void (*enter)(int function), int (*here)(void));
void replay_unloaded(int number);
void replay_enter(int function);

void replay_loaded(void (*add)(int handler, int which), void (*enter)(int function), int (*here)(void))
{
	int n = replay_loading;
	library[n].add = add;
	library[n].enter = enter;
	library[n].here = here;
	run_function(program.library[n].load);
}

void replay_unloaded(int number) { run_function(program.library[number].unload); }
void replay_enter(int function) { run_function(function); }

/* Where the code was another library may be by now. */
void go_on_in(int n)
{
	if (n != nobody && library[n].here() != n)
		__builtin_trap();
}

static void make_library(int n)
{
	int fd = syscall(SYS_memfd_create, "replay-library", 0);
	size_t size = library_end - library_start;
	if (fd < 0 || write(fd, library_start, size) != (ssize_t)size)
		_exit(125);
	snprintf(path[n], sizeof path[n], "/proc/self/fd/%d", fd);
}

static void run_dlopen(int n)
{
	void *handle;
	replay_loading = n;
	handle = dlopen(path[n], RTLD_NOW | RTLD_LOCAL);
	check(handle != NULL);
	if (handle) {
		library[n].handle = handle;
		library[n].opens++;
	}
}

static void run_dlclose(int n)
{
	/* A handle that was closed must not be closed again: nobody knows what comes of
	 * it. The program's own takes the same lock, and does nothing. */
	if (library[n].opens > 0) {
		library[n].opens--;
		check(!dlclose(library[n].handle));
	} else {
		dlclose(own);
	}
}

static void run_pthread_atfork(int n)
{
	const struct handler *h = &program.handler[n];
	void (*const *t)(void) = trampolines[n];
	const int *f = h->function;
	if (h->library != nobody) {
		go_on_in(h->library);
		library[h->library].add(n, (f[0] != nobody) | (f[1] != nobody) << 1 | (f[2] != nobody) << 2);
		go_on_in(h->library);
	} else
		check(!pthread_atfork(f[0] == nobody ? NULL : t[0], f[1] == nobody ? NULL : t[1], f[2] == nobody ? NULL : t[2]));
}

static int visited(struct dl_phdr_info *i, size_t size, void *data)
{
	(void)i;
	(void)size;
	(void)data;
	callback();
	return 0;
}

static void run_iterate(int n)
{
	(void)n;
	dl_iterate_phdr(visited, NULL);
}

static void run_call(int function)
{
	int l = program.function[function].library;
	go_on_in(l);
	if (l != nobody)
		library[l].enter(function);
	else
		run_function(function);
}

/* Others of libc's. */
static void run_localtime(int n)
{
	/* Another zone than before: its file is looked for, under the lock. */
	static char zone[2][32] = {"TZ=Nowhere/A", "TZ=Nowhere/B"};
	static int turn;
	extern char **environ;
	time_t now = 0;
	(void)n;
	for (char **e = environ; *e; e++)
		if (!strncmp(*e, "TZ=", 3))
			*e = zone[turn++ & 1];
	localtime(&now);
}

static void run_setenv(int n)
{
	(void)n;
	setenv("REPLAY", "x", 1);
}

static void run_random(int n)
{
	(void)n;
	random();
}

static void run_setlocale(int n)
{
	(void)n;
	setlocale(LC_ALL, "C");
}

static void run_gettext(int n)
{
	(void)n;
	(void)gettext("none");
}

static void nothing(void) {}

static void run_atexit(int n)
{
	(void)n;
	atexit(nothing);
}

static void run_write(int n)
{
	(void)n;
	check(write(1, "x", 1) == 1);
}

static void run_wait(int n)
{
	int status;
	pid_t pid;
	(void)n;
	while ((pid = waitpid(-1, &status, 0)) < 0 && errno == EINTR)
		;
	check(pid > 0);
	int i = atomic_fetch_add(&shared->waits, 1);
	if (pid > 0 && i < most_processes) {
		shared->waited[i].pid = pid;
		shared->waited[i].status = status;
	}
}

static void run_exit(int n)
{
	(void)n;
	exit(0);
}

static void run_quick_exit(int n)
{
	(void)n;
	_exit(0);
}

enum { none = -1, a_lock, a_semaphore, a_thread, a_function, a_handler, a_library, a_stream };

static const struct verb verbs[] = {
	{"lock", a_lock, run_lock, 0},
	{"unlock", a_lock, run_unlock, 0},
	{"init", a_lock, make_lock, 0},
	{"post", a_semaphore, run_post, 0},
	{"await", a_semaphore, run_await, 0},
	{"join", a_thread, run_join, 0},
	{"call", a_function, run_call, 0},
	{"fork", a_function, run_fork, 0},
	{"wait", none, run_wait, 0},
	{"exit", none, run_exit, 0},
	{"_exit", none, run_quick_exit, 0},
	{"pthread_atfork", a_handler, run_pthread_atfork, 0},
	{"dlopen", a_library, run_dlopen, in_open},
	{"dlclose", a_library, run_dlclose, 0},
	{"fflush", a_stream, run_fflush, 0},
	{"fflush-all", none, run_flush_all, in_callback},
	{"flockfile", a_stream, run_flockfile, 0},
	{"funlockfile", a_stream, run_funlockfile, 0},
	{"getline", a_stream, run_getline, in_callback},
	{"malloc", none, run_malloc, in_memory},
	{"free", none, run_free, 0},
	{"realloc", none, run_realloc, 0},
	{"printf", none, run_printf, in_write},
	{"write", none, run_write, 0},
	{"dl_iterate_phdr", none, run_iterate, in_callback},
	{"setenv", none, run_setenv, 0},
	{"localtime", none, run_localtime, in_open},
	{"random", none, run_random, 0},
	{"setlocale", none, run_setlocale, 0},
	{"gettext", none, run_gettext, 0},
	{"atexit", none, run_atexit, 0},
};

const struct verb *verb_named(const char *name)
{
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

int operands(const struct verb *v)
{
	switch (v->takes) {
	case a_lock: return program.locks;
	case a_semaphore: return program.semaphores;
	case a_thread: return program.threads;
	case a_function: return program.functions;
	case a_handler: return program.handlers;
	case a_library: return program.libraries;
	case a_stream: return program.streams + 3;
	}
	return nobody;
}

/* By each thread, before it runs. */
void prepare_thread(void)
{
	for (spares = 0; spares < (int)(sizeof spare / sizeof *spare); spares++) {
		spare[spares] = malloc(spare_size);
		kept = malloc(1500); /* so that no two that are freed lie side by side */
	}
}

void prepare_calls(void)
{
#ifdef M_ARENA_MAX
	mallopt(M_ARENA_MAX, program.arenas);
#endif
	for (int i = 0; i < program.locks; i++)
		make_lock(i);
	for (int i = 0; i < program.semaphores; i++)
		sem_init(&semaphore[i], 0, 0);
	setvbuf(stdout, buffer[most_streams], _IOFBF, sizeof *buffer);
	for (int i = 0; i < program.streams; i++)
		stream[i] = make_stream("r", buffer[i]);
	for (int i = 0; i < program.threads; i++)
		stopping[i] = make_stream("w", buffer[most_streams + 1 + i]);
	thread_of[0] = pthread_self();
	own = dlopen(NULL, RTLD_NOW);
	for (int i = 0; i < program.libraries; i++) {
		make_library(i);
		if (program.library[i].loaded)
			run_dlopen(i);
	}
	for (int i = 0; i < program.registered; i++)
		run_pthread_atfork(program.atfork[i]);
}
