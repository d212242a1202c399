// A process that forks while its threads hold locks of every kind in every kind
// of place, and a child that wants none of them.
//
// It writes "parent=PID child=PID stays=TID left=TID" and a line "NAME 0xADDR"
// for each lock when all is in place. Which of them are orphaned in the child is
// for the test to know.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096

static pthread_mutex_t g_data = {.__data = {.__kind = PTHREAD_MUTEX_RECURSIVE_NP}};
static pthread_mutex_t g_bss, g_released, g_survivor, g_ended, g_free;
static pthread_rwlock_t g_writing = PTHREAD_RWLOCK_INITIALIZER, g_reading = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t *heap, *robust, *heap_ended, *shared, *border, *on_stack, *in_tls;
// What a program begins with nobody has locked, whatever it looks like.
static int g_constant[10] = {1, 0, 70000, 1, 0, 0, 0, 0, 0, 0};
static __thread pthread_mutex_t t_lock = PTHREAD_MUTEX_INITIALIZER;
static sem_t ready, forked;
static volatile int stays_tid, left_tid;

static void *stays(void *unused)
{
	pthread_mutex_t local = PTHREAD_MUTEX_INITIALIZER;
	stays_tid = syscall(SYS_gettid);
	on_stack = &local;
	in_tls = &t_lock;
	pthread_mutex_lock(&g_data);
	pthread_mutex_lock(&g_data);
	pthread_mutex_lock(&g_bss);
	pthread_mutex_lock(&g_released);
	pthread_rwlock_wrlock(&g_writing);
	pthread_rwlock_rdlock(&g_reading);
	pthread_mutex_lock(heap);
	pthread_mutex_lock(robust);
	pthread_mutex_lock(shared);
	pthread_mutex_lock(border);
	pthread_mutex_lock(&local);
	pthread_mutex_lock(&t_lock);
	pthread_mutex_lock(&g_free);
	pthread_mutex_unlock(&g_free);
	sem_post(&ready);
	while (sem_wait(&forked))
		;
	pthread_mutex_unlock(&g_released);
	sem_post(&ready);
	for (;;)
		pause();
	return unused;
}

static void *leaves(void *unused)
{
	left_tid = syscall(SYS_gettid);
	pthread_mutex_lock(&g_ended);
	pthread_mutex_lock(heap_ended);
	sem_post(&ready);
	while (sem_wait(&forked))
		;
	return unused;
}

int main(void)
{
	pthread_mutexattr_t attr;
	pthread_t a, b;
	char *pages = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	sem_init(&ready, 0, 0);
	sem_init(&forked, 0, 0);
	heap = calloc(1, 200);
	heap_ended = calloc(1, sizeof *heap_ended);
	robust = calloc(1, sizeof *robust);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	// Its second half lies in a page that nobody ever writes to.
	border = (pthread_mutex_t *)(pages + 2 * PAGE - 16);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(robust, &attr);
	pthread_mutex_lock(&g_survivor);
	pthread_create(&a, NULL, stays, NULL);
	while (sem_wait(&ready))
		;
	pthread_create(&b, NULL, leaves, NULL);
	while (sem_wait(&ready))
		;
	*(volatile int *)&g_constant[9] = 0; // its page becomes the process's own
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	sem_post(&forked);
	sem_post(&forked);
	pthread_join(b, NULL);
	while (sem_wait(&ready))
		;
	printf("parent=%d child=%d stays=%d left=%d\n", getpid(), pid, stays_tid, left_tid);
	printf("data %p\nbss %p\nreleased %p\nsurvivor %p\nended %p\nfree %p\nwriting %p\nreading %p\nheap %p\nrobust %p\n", (void *)&g_data,
	       (void *)&g_bss, (void *)&g_released, (void *)&g_survivor, (void *)&g_ended, (void *)&g_free, (void *)&g_writing,
	       (void *)&g_reading, (void *)heap, (void *)robust);
	printf("heap_ended %p\nshared %p\nborder %p\nstack %p\ntls %p\nconstant %p\nend\n", (void *)heap_ended, (void *)shared, (void *)border,
	       (void *)on_stack, (void *)in_tls, (void *)g_constant);
	fflush(stdout);
	for (;;)
		pause();
}
