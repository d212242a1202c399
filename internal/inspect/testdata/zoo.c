/* Processes in the states that an inspection must tell apart. The argument
 * names the state; the line printed is the PID to look at. Those that begin with
 * "stuck" are deadlocked for ever, all others are not. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t g_other = PTHREAD_MUTEX_INITIALIZER;
pthread_rwlock_t g_rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t held, g_sem;

static void report(pid_t pid) { printf("%d\n", pid); fflush(stdout); }

static void *hold_mutex(void *p) { (void)p; pthread_mutex_lock(&g_lock); sem_post(&held); for (;;) pause(); }
static void *hold_write(void *p) { (void)p; pthread_rwlock_wrlock(&g_rwlock); sem_post(&held); for (;;) pause(); }
static void *hold_read(void *p) { (void)p; pthread_rwlock_rdlock(&g_rwlock); sem_post(&held); for (;;) pause(); }

static void holder(void *(*f)(void *)) {
	pthread_t t;
	pthread_create(&t, 0, f, 0);
	pthread_setname_np(t, "refresher");
	while (sem_wait(&held)) ;
}

static void *idle(void *p) { (void)p; for (;;) poll(0, 0, -1); }
static void *want_first(void *p) { (void)p; pthread_mutex_lock(&g_other); sem_post(&held); sleep(1); pthread_mutex_lock(&g_lock); return 0; }
static void *in_sem(void *p) { (void)p; for (;;) sem_wait(&g_sem); }
static void post(int s) { (void)s; sem_post(&g_sem); }

static int waker(void *p) { (void)p; for (;;) pause(); }

static void init_type(int type, int robust, int pi) {
	pthread_mutexattr_t a;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, type);
	if (robust) pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	if (pi) pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&g_lock, &a);
}

/* forked runs child in a child of fork and reports it. */
static void forked(void (*child)(void)) {
	pid_t pid = fork();
	if (!pid) { child(); _exit(0); }
	report(pid);
	waitpid(pid, 0, 0);
}

static void want_mutex(void) { pthread_mutex_lock(&g_lock); }
static void want_mutex_with_idle_thread(void) { pthread_t t; pthread_create(&t, 0, idle, 0); pthread_mutex_lock(&g_lock); }
static void want_write(void) { pthread_rwlock_wrlock(&g_rwlock); }
static void want_read(void) { pthread_rwlock_rdlock(&g_rwlock); }
static void wait_sem(void) { for (;;) sem_wait(&g_sem); }
static void wait_sem_handler(void) { signal(SIGUSR1, post); for (;;) sem_wait(&g_sem); }
static void do_poll(void) { poll(0, 0, -1); }
static void do_pause(void) { pause(); }
static void do_spin(void) { for (;;) ; }
static void do_accept(void) {
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	struct { sa_family_t f; char n[8]; } a = { AF_UNIX, "" };
	bind(s, (void *)&a, sizeof(sa_family_t));
	listen(s, 1);
	accept(s, 0, 0);
}
static void do_epoll(void) { struct epoll_event e; epoll_wait(epoll_create1(0), &e, 1, -1); }
static void do_select(void) { select(0, 0, 0, 0, 0); }
static void do_timed(void) {
	for (;;) { struct timespec t; clock_gettime(CLOCK_REALTIME, &t); t.tv_sec += 60; sem_timedwait(&g_sem, &t); }
}
static void do_shared(void) {
	sem_t *s = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sem_init(s, 1, 0);
	if (!fork()) { pause(); _exit(0); } /* could post it */
	sem_wait(s);
}
static void do_shared_private_op(void) {
	int *w = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0);
}
static void do_clone_vm(void) {
	char *stack = malloc(65536);
	clone(waker, stack + 65536, CLONE_VM | SIGCHLD, 0);
	sem_wait(&g_sem);
}
static void do_pool(void) { pthread_t t; for (int i = 0; i < 4; i++) pthread_create(&t, 0, in_sem, 0); poll(0, 0, -1); }
static void do_stopped(void) { raise(SIGSTOP); pthread_mutex_lock(&g_lock); }
static void do_cycle(void) {
	pthread_t t;
	pthread_mutex_lock(&g_lock);
	pthread_create(&t, 0, want_first, 0);
	while (sem_wait(&held)) ;
	pthread_create(&t, 0, idle, 0);
	pthread_mutex_lock(&g_other);
}
static void survivor_prepare(void) { pthread_mutex_lock(&g_lock); }
static void *want(void *p) { (void)p; pthread_mutex_lock(&g_lock); return 0; }
/* the lock that the forking thread took itself: it may still release it */
static void do_survivor(void) { pthread_t t; pthread_create(&t, 0, want, 0); poll(0, 0, -1); }

int main(int argc, char **argv) {
	const char *w = argc > 1 ? argv[1] : "";
#define IS(s) (!strcmp(w, s))
	sem_init(&held, 0, 0);
	sem_init(&g_sem, 0, 0);
	if (IS("stuck-normal")) { holder(hold_mutex); forked(want_mutex); }
	else if (IS("stuck-idle-thread")) { holder(hold_mutex); forked(want_mutex_with_idle_thread); }
	else if (IS("stuck-recursive")) { init_type(PTHREAD_MUTEX_RECURSIVE, 0, 0); holder(hold_mutex); forked(want_mutex); }
	else if (IS("stuck-errorcheck")) { init_type(PTHREAD_MUTEX_ERRORCHECK, 0, 0); holder(hold_mutex); forked(want_mutex); }
	else if (IS("stuck-adaptive")) { init_type(PTHREAD_MUTEX_ADAPTIVE_NP, 0, 0); holder(hold_mutex); forked(want_mutex); }
	else if (IS("stuck-robust")) { init_type(PTHREAD_MUTEX_NORMAL, 1, 0); holder(hold_mutex); forked(want_mutex); }
	else if (IS("stuck-writer")) { holder(hold_write); forked(want_write); }
	else if (IS("stuck-behind-writer")) { holder(hold_write); forked(want_read); }
	else if (IS("stuck-readers")) { holder(hold_read); forked(want_write); }
	else if (IS("stuck-semaphore")) forked(wait_sem);
	else if (IS("stuck-cycle")) forked(do_cycle);
	else if (IS("semaphore-handler")) forked(wait_sem_handler);
	else if (IS("poll")) forked(do_poll);
	else if (IS("pause")) forked(do_pause);
	else if (IS("busy")) forked(do_spin);
	else if (IS("accept")) forked(do_accept);
	else if (IS("epoll")) forked(do_epoll);
	else if (IS("select")) forked(do_select);
	else if (IS("timed")) forked(do_timed);
	else if (IS("shared")) forked(do_shared);
	else if (IS("shared-private-op")) forked(do_shared_private_op);
	else if (IS("clone-vm")) forked(do_clone_vm);
	else if (IS("pool")) forked(do_pool);
	else if (IS("stopped")) { holder(hold_mutex); forked(do_stopped); }
	else if (IS("survivor")) { pthread_atfork(survivor_prepare, 0, 0); forked(do_survivor); }
	else return 2;
	return 0;
}
