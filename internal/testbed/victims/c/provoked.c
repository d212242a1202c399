// A program whose second thread uses a lock now and then while its first one
// forks, and whose children use the same lock once: so rarely does a fork meet the
// lock that thousands of them may all be well.
//
//   provoked LOCK [FORKS [PATIENCE]]
//
// FORKS is how many children it makes (default 3), one after the other, each of
// which it waits for. PATIENCE is after how many milliseconds it takes a child for
// hung: it says after how many forks, kills the child and ends with status 3; 0,
// the default, is to wait for ever. "serve" in place of FORKS makes it fork once
// for each SIGUSR1 and leave its children alive.
//
// A LOCK that ends in "_safe" is the healthy twin: the same, with fork handlers
// that take the lock and give it back.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <iconv.h>
#include <link.h>
#include <locale.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t *heap_mutex;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t sem;
static FILE *stream;
static volatile unsigned long counter;

static void use_mutex(void)
{
	pthread_mutex_lock(&mutex);
	counter++;
	pthread_mutex_unlock(&mutex);
}

static void use_heap_mutex(void)
{
	pthread_mutex_lock(heap_mutex);
	counter++;
	pthread_mutex_unlock(heap_mutex);
}

static void use_trylock(void)
{
	while (pthread_mutex_trylock(&mutex) != 0)
		usleep(100);
	counter++;
	pthread_mutex_unlock(&mutex);
}

static void use_rwlock(void)
{
	pthread_rwlock_wrlock(&rwlock);
	counter++;
	pthread_rwlock_unlock(&rwlock);
}

static void use_sem(void)
{
	while (sem_wait(&sem) != 0)
		;
	counter++;
	sem_post(&sem);
}

static void use_malloc(void)
{
	// Too large for the thread's own cache, too small for a mapping.
	char *volatile p = malloc(40000), *volatile q = malloc(2000);
	p[0] = q[0] = 1;
	free(p);
	free(q);
}

static void use_stdio(void) { fprintf(stream, "%lu\n", counter++); }

static void use_flockfile(void)
{
	flockfile(stream);
	counter++;
	funlockfile(stream);
}

static void use_env(void)
{
	char value[32];
	snprintf(value, sizeof value, "%lu", counter++);
	setenv("PROVOKED", value, 1);
}

static void use_tz(void)
{
	time_t now = 1700000000 + counter++;
	struct tm tm;
	localtime_r(&now, &tm);
}

static void use_random(void) { counter += random(); }
static void use_pwnam(void) { counter += getpwnam("root") != NULL; }
static void use_locale(void) { setlocale(LC_NUMERIC, counter++ % 2 ? "C" : "POSIX"); }

static void use_syslog(void)
{
	setlogmask(LOG_UPTO(LOG_ERR));
	counter++;
}

static void use_resolver(void)
{
	struct addrinfo hints = {.ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM}, *found = NULL;
	if (getaddrinfo("127.0.0.1", "80", &hints, &found) == 0)
		freeaddrinfo(found);
	counter++;
}

static int each(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)info, (void)size, (void)data;
	return 0;
}

static void use_loader(void)
{
	dl_iterate_phdr(each, NULL);
	counter++;
}

static void use_dlopen(void)
{
	void *self = dlopen(NULL, RTLD_NOW);
	if (self)
		dlclose(self);
	counter++;
}

static void use_gconv(void)
{
	iconv_t c = iconv_open("UTF-8", "ISO-8859-1");
	if (c != (iconv_t)-1)
		iconv_close(c);
	counter++;
}

static const struct {
	const char *name;
	void (*use)(void);
} locks[] = {
	{"mutex", use_mutex}, {"heap_mutex", use_heap_mutex}, {"trylock", use_trylock}, {"rwlock", use_rwlock}, {"sem", use_sem},
	{"malloc", use_malloc}, {"stdio", use_stdio}, {"flockfile", use_flockfile}, {"env", use_env}, {"tz", use_tz},
	{"random", use_random}, {"pwnam", use_pwnam}, {"locale", use_locale}, {"syslog", use_syslog}, {"resolver", use_resolver},
	{"loader", use_loader}, {"dlopen", use_dlopen}, {"gconv", use_gconv},
};

static void (*use)(void);

static void before(void)
{
	pthread_mutex_lock(&mutex);
	pthread_mutex_lock(heap_mutex);
	pthread_rwlock_wrlock(&rwlock);
	while (sem_wait(&sem) != 0)
		;
}

static void after(void)
{
	sem_post(&sem);
	pthread_rwlock_unlock(&rwlock);
	pthread_mutex_unlock(heap_mutex);
	pthread_mutex_unlock(&mutex);
}

static void after_in_child(void)
{
	// The child's thread has another id than that which took the read-write lock.
	pthread_rwlock_init(&rwlock, NULL);
	sem_post(&sem);
	pthread_mutex_unlock(heap_mutex);
	pthread_mutex_unlock(&mutex);
}

static void *other(void *unused)
{
	for (;;) {
		use();
		usleep(2000);
	}
	return unused;
}

static void serve(sigset_t *set)
{
	for (;;) {
		int sig;
		sigwait(set, &sig);
		pid_t child = fork();
		if (child == 0) {
			use();
			for (;;)
				pause();
		}
		printf("child pid=%d\n", (int)child);
	}
}

// await returns 0 when the child ended well, 1 when it did not, 3 when it hangs.
static int await(pid_t child, long patience)
{
	for (long waited = 0;; waited++) {
		int status;
		pid_t got = waitpid(child, &status, patience ? WNOHANG : 0);
		if (got == child)
			return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
		if (patience && waited >= patience) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			return 3;
		}
		usleep(1000);
	}
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	char name[64] = "";
	if (argc > 1)
		snprintf(name, sizeof name, "%s", argv[1]);
	char *end = strstr(name, "_safe");
	int safe = end && end[5] == 0;
	if (safe)
		*end = 0;
	for (unsigned i = 0; i < sizeof locks / sizeof *locks; i++)
		if (strcmp(locks[i].name, name) == 0)
			use = locks[i].use;
	if (!use) {
		fprintf(stderr, "provoked: no lock %s\n", name);
		return 2;
	}
	heap_mutex = malloc(sizeof *heap_mutex);
	pthread_mutex_init(heap_mutex, NULL);
	sem_init(&sem, 0, 1);
	stream = fopen("/dev/null", "w");
	setvbuf(stream, NULL, _IONBF, 0);
	use(); // what is made at the first use is made
	if (safe)
		pthread_atfork(before, after, after_in_child);
	int serves = argc > 2 && strcmp(argv[2], "serve") == 0;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	pthread_t thread;
	pthread_create(&thread, NULL, other, NULL);
	pthread_setname_np(thread, "user");
	printf("ready pid=%d\n", (int)getpid());
	if (serves)
		serve(&set);
	long forks = argc > 2 ? atol(argv[2]) : 40, patience = argc > 3 ? atol(argv[3]) : 0;
	for (long i = 1; i <= forks; i++) {
		usleep(1000);
		pid_t child = fork();
		if (child == 0) {
			use();
			_exit(0);
		}
		switch (await(child, patience)) {
		case 1:
			printf("failed after %ld forks\n", i);
			return 1;
		case 3:
			printf("hung after %ld forks\n", i);
			return 3;
		}
	}
	printf("well after %ld forks\n", forks);
	return 0;
}
