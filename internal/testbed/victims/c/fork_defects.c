/* Does what a known defect of the C library needs, each chosen by its name, and
 * says "NAME fine" or "NAME hangs":
 *   atfork, dlclose  in a child handler of a process with threads   BZ-24595
 *   join             a thread of the master, in the child           glibc-joinstate
 *   destroy          a condition that a thread of the master waits on   glibc-cond-destroy
 *   exit             while a thread of the master is inside exit    glibc-exit-lock
 *   rwlock           write-locked before the fork, unlocked after it; the next
 *                    lock fails instead of hanging                  glibc-rwlock-atfork
 *   mutex            a recursive one, likewise                      glibc-mutex-owner
 * The child has one thread. That it sleeps in a futex is therefore for ever, and
 * no time needs to be waited out. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *name;
static void *library;
static pid_t master;
static int ready[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t recursive = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

static int is(const char *s) { return !strcmp(name, s); }

static void tell(void) {
	if (write(ready[1], "x", 1) != 1)
		abort();
}

static void nothing(void) {}

static void in_child(void) {
	if (is("atfork"))
		pthread_atfork(nothing, nothing, nothing);
	if (is("dlclose"))
		dlclose(library);
}

/* Runs in exit: the master stays in it for ever, a child passes through. */
static void at_exit(void) {
	if (getpid() != master || !is("exit"))
		return;
	tell();
	for (;;)
		pause();
}

static void *thread(void *unused) {
	if (is("exit"))
		exit(1);
	pthread_mutex_lock(&mutex);
	tell();
	if (is("destroy"))
		for (;;)
			pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
	for (;;)
		pause();
	return unused;
}

static int child(pthread_t t) {
	if (is("join"))
		pthread_join(t, NULL);
	if (is("destroy"))
		pthread_cond_destroy(&cond);
	if (is("exit"))
		exit(0);
	if (is("rwlock")) {
		pthread_rwlock_unlock(&rwlock);
		return pthread_rwlock_trywrlock(&rwlock) != 0;
	}
	if (is("mutex")) {
		pthread_mutex_unlock(&recursive);
		return pthread_mutex_trylock(&recursive) != 0;
	}
	return 0;
}

static int asleep(pid_t pid) {
	char path[64], text[64] = "";
	snprintf(path, sizeof path, "/proc/%d/wchan", pid);
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	if (!fgets(text, sizeof text, f))
		text[0] = 0;
	fclose(f);
	return !strncmp(text, "futex", 5);
}

int main(int argc, char **argv) {
	pthread_t t;
	char byte;
	int status;
	if (argc != 2 || pipe(ready))
		return 2;
	name = argv[1];
	master = getpid();
	library = dlopen("libresolv.so.2", RTLD_NOW);
	if (!library)
		return 2;
	atexit(at_exit);
	pthread_atfork(NULL, NULL, in_child);
	pthread_create(&t, NULL, thread, NULL);
	if (read(ready[0], &byte, 1) != 1)
		return 2;
	/* Whoever got this lock knows that the thread waits or is done with it. */
	pthread_mutex_lock(&mutex);
	pthread_rwlock_wrlock(&rwlock);
	pthread_mutex_lock(&recursive);
	pid_t pid = fork();
	if (pid == 0)
		_exit(child(t));
	for (;; usleep(1000)) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			printf("%s %s\n", name, status == 0 ? "fine" : "hangs");
			break;
		}
		if (asleep(pid)) {
			printf("%s hangs\n", name);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			break;
		}
	}
	fflush(stdout);
	_exit(0);
}
