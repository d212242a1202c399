/* A process that sleeps in as many ways as its arguments ask for, one thread
 * each. It writes "ready" once all threads are about to sleep. */
#define _GNU_SOURCE
#include <alloca.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t ready;
static int pipes[2];
static volatile int zero;

#define KEEP __attribute__((noinline, noclone))

KEEP static void about_to_sleep(void) { pthread_barrier_wait(&ready); }

/* Every sleep is wrapped in some frames of different make. */
KEEP static int in_read(void) { char c; about_to_sleep(); int n = read(pipes[0], &c, 1); return n + zero; }
KEEP static int in_poll(void) { struct pollfd p = {pipes[0], POLLIN, 0}; about_to_sleep(); return poll(&p, 1, -1) + zero; }
KEEP static int in_nanosleep(void) { struct timespec t = {100000, 0}; about_to_sleep(); return nanosleep(&t, NULL) + zero; }
KEEP static int in_usleep(void) { about_to_sleep(); return usleep(1000000000u) + zero; }

static sem_t sem;
KEEP static int in_sem(void) { about_to_sleep(); return sem_wait(&sem) + zero; }

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
KEEP static int in_mutex(void) { about_to_sleep(); return pthread_mutex_lock(&held) + zero; }

static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
KEEP static int in_rwlock(void) { about_to_sleep(); return pthread_rwlock_wrlock(&rw) + zero; }

static pthread_mutex_t cm = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
KEEP static int in_cond(void) {
	pthread_mutex_lock(&cm);
	about_to_sleep();
	int r = pthread_cond_wait(&cv, &cm);
	pthread_mutex_unlock(&cm);
	return r + zero;
}

KEEP static int in_futex(void) {
	static int word;
	about_to_sleep();
	return syscall(SYS_futex, &word, 128, 0, NULL) + zero;
}

/* A frame that counts from its frame pointer, with old frames under it. */
KEEP static int deeper(int n) { char b[200]; memset(b, n, sizeof b); asm volatile("" :: "r"(b) : "memory"); return n ? deeper(n - 1) + b[n] : 0; }
KEEP static int with_alloca(void) {
	deeper(20);
	volatile char *p = alloca(4096 + 16 * zero);
	asm volatile("" :: "r"(p) : "memory");
	return in_read() + p[0];
}
KEEP static int in_alloca(void) { int r = with_alloca(); return r + zero; }
KEEP static int aligned(void) {
	char a[128] __attribute__((aligned(64)));
	volatile char *p = alloca(64 + 16 * zero);
	asm volatile("" :: "r"(p), "r"(a) : "memory");
	return in_poll() + p[0] + a[0];
}
KEEP static int in_aligned(void) { int r = aligned(); return r + zero; }
/* read itself called by one that has alloca: nobody saved its frame pointer. */
KEEP static int alloca_read(int size) {
	deeper(30);
	char *p = alloca(size);
	about_to_sleep();
	return read(pipes[0], p, 1) + p[0];
}
KEEP static int in_alloca_read(void) { int r = alloca_read(2000); return r + zero; }
KEEP static int in_alloca_big(void) { int r = alloca_read(200000); return r + zero; }
KEEP static int alloca_again(int n) {
	char *p = alloca(100 + n);
	asm volatile("" :: "r"(p) : "memory");
	if (n)
		return alloca_again(n - 1) + p[0];
	about_to_sleep();
	return read(pipes[0], p, 1) + p[0];
}
KEEP static int in_alloca_recurse(void) { return alloca_again(50) + zero; }
/* The same, but the function is only ever called through a pointer. */
static int (*volatile pointer)(int) = alloca_read;
KEEP static int in_alloca_pointer(void) { int r = pointer(3000); return r + zero; }

KEEP static int recurse(int n) { if (n == 0) return in_read(); int r = recurse(n - 1); return r + n + zero; }
KEEP static int in_deep(void) { return recurse(1000) + zero; }

/* Many arguments, some of them on the stack. */
KEEP static int args(int a, int b, int c, int d, int e, int f, int g, int h, int i) {
	int r = in_nanosleep();
	return r + a + b + c + d + e + f + g + h + i;
}
KEEP static int in_args(void) { int r = args(1, 2, 3, 4, 5, 6, 7, 8, 9 + zero); return r + zero; }

static int compare(const void *a, const void *b) { in_read(); return *(const char *)a - *(const char *)b; }
KEEP static int in_qsort(void) { char s[] = "hello world"; qsort(s, 5, 1, compare); return s[0] + zero; }

/* Signal handlers that sleep. */
KEEP static void handler_sleeps(void) { about_to_sleep(); pause(); }
static void handler(int s) { handler_sleeps(); zero = s - s; }
KEEP static int raise_and_wait(int s) { raise(s); return zero; }
KEEP static int in_signal(void) {
	struct sigaction a = {.sa_handler = handler};
	sigaction(SIGUSR1, &a, NULL);
	return raise_and_wait(SIGUSR1) + zero;
}
KEEP static int in_altstack(void) {
	stack_t st = {.ss_size = 65536, .ss_sp = malloc(65536)};
	sigaltstack(&st, NULL);
	struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	sigaction(SIGUSR2, &a, NULL);
	return raise_and_wait(SIGUSR2) + zero;
}
/* A fault: the interrupted instruction is no call, and often a function's first. */
static int *volatile null;
KEEP static int faults(void) { return *null; }
static void on_segv(int s) { handler_sleeps(); _exit(s); }
KEEP static int in_fault(void) {
	struct sigaction a = {.sa_handler = on_segv};
	sigaction(SIGSEGV, &a, NULL);
	return faults() + zero;
}
#ifdef __x86_64__
/* A C library whose signal trampoline has no unwind tables, like musl's. */
asm(".globl bare_restorer\nbare_restorer:\n\tmov $15, %rax\n\tsyscall\n");
extern void bare_restorer(void);
struct kernel_sigaction { void (*handler)(int); unsigned long flags; void (*restorer)(void); unsigned long mask; };
KEEP static int in_bare_signal(void) {
	struct kernel_sigaction a = {handler, 0x04000000, bare_restorer, 0};
	syscall(SYS_rt_sigaction, SIGWINCH, &a, NULL, 8);
	return raise_and_wait(SIGWINCH) + zero;
}
#endif

/* The file below is linked in; built without unwind tables in some tests. */
int foreign(int (*f)(void));
KEEP static int in_foreign(void) { return foreign(in_poll) + zero; }
int foreign_read(int fd, void (*about)(void));
KEEP static int in_foreign_read(void) { return foreign_read(pipes[0], about_to_sleep) + zero; }

static const struct { const char *name; int (*f)(void); } ways[] = {
#define WAY(x) {#x, in_##x}
	WAY(read), WAY(poll), WAY(nanosleep), WAY(usleep), WAY(sem), WAY(mutex), WAY(rwlock), WAY(cond), WAY(futex),
	WAY(alloca), WAY(aligned), WAY(alloca_read), WAY(alloca_big), WAY(alloca_recurse), WAY(alloca_pointer),
	WAY(deep), WAY(args), WAY(qsort), WAY(signal), WAY(altstack), WAY(fault), WAY(foreign), WAY(foreign_read),
#ifdef __x86_64__
	WAY(bare_signal),
#endif
};

static void *run(void *arg) { ways[(long)arg].f(); return NULL; }

int main(int argc, char **argv) {
	if (pipe(pipes))
		return 1;
	pthread_mutex_lock(&held);
	pthread_rwlock_rdlock(&rw);
	pthread_barrier_init(&ready, NULL, argc);
	for (int i = 1; i < argc; i++) {
		long w = -1;
		for (unsigned j = 0; j < sizeof ways / sizeof *ways; j++)
			if (!strcmp(ways[j].name, argv[i]))
				w = j;
		pthread_t t;
		if (w < 0 || pthread_create(&t, NULL, run, (void *)w))
			return 2;
		char name[16];
		snprintf(name, sizeof name, "%s", argv[i]);
		pthread_setname_np(t, name);
	}
	pthread_barrier_wait(&ready);
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
