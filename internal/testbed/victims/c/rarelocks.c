// rarelocks LOCK [forks=N] [twin]: a program that forks N times, 1 by default,
// while a thread of it takes a lock now and then, for as long as real code does:
// from some ten nanoseconds to a tenth of a millisecond in each one.
//
// LOCK: mutex (of a library that looks after no fork, held while it sorts its
//   table), malloc (one arena), stdio (a stream that both write to), env
//   (setenv), tz (localtime_r, which looks at the zone file each time), random, nss
//   (getpwnam, which reads /etc/passwd), resolver (getaddrinfo of a name that
//   /etc/hosts has), loader (dlopen and dlclose), locale (setlocale), syslog.
// Each child calls the same function once and ends. What is called where nothing
// is locked, and so is for comparison alone: none (getpid).
//
// Shows: the chance of a fork that meets a lock is small, and differs by what the
// C library looks after itself. With "twin" all calls are made under a mutex that
// fork handlers take and give back: the healthy twin, for which no fork meets the
// lock. A fork whose child does not end is waited for without limit. It writes
// "ready" before the first fork and "done forks=N" after the last one.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <locale.h>
#include <malloc.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

pthread_mutex_t g_table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static unsigned table[1024];
static FILE *stream;
static int twin;

static unsigned chance(unsigned below) // its own, or random's lock would be part of all
{
	static __thread unsigned long state;
	if (!state)
		state = (unsigned long)time(NULL) * 2654435761u + getpid() * 97 + (unsigned long)&state;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static int ascending(const void *a, const void *b)
{
	const unsigned *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void use_mutex(void)
{
	pthread_mutex_lock(&g_table_lock);
	for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
		table[i] = chance(1 << 30);
	qsort(table, sizeof table / sizeof *table, sizeof *table, ascending);
	pthread_mutex_unlock(&g_table_lock);
}

static void use_malloc(void)
{
	for (int i = 0; i < 100; i++) {
		void *volatile p = malloc(2000 + chance(8000));
		free(p);
	}
}

static void use_stdio(void)
{
	fprintf(stream, "refreshed %u of %u entries\n", chance(1000), 1000);
	fflush(stream);
}

static void use_env(void)
{
	setenv("RARELOCKS_SEEN", "yes", 1);
	unsetenv("RARELOCKS_SEEN");
}

static void use_tz(void)
{
	struct tm tm;
	time_t now = time(NULL);
	localtime_r(&now, &tm);
	mktime(&tm);
}

static void use_random(void)
{
	for (int i = 0; i < 100; i++)
		random();
}

static void use_nss(void) { getpwnam("nobody"); }

static void use_resolver(void)
{
	struct addrinfo *found;
	if (!getaddrinfo("localhost", "80", NULL, &found))
		freeaddrinfo(found);
}

static void use_loader(void)
{
	void *lib = dlopen("libutil.so.1", RTLD_NOW);
	if (lib)
		dlclose(lib);
}

static void use_locale(void)
{
	setlocale(LC_ALL, "C.UTF-8");
	setlocale(LC_ALL, "C");
}

static void use_syslog(void) { syslog(LOG_DEBUG, "refreshed"); }

static void use_none(void) { getpid(); }

static const struct {
	const char *name;
	void (*use)(void);
} locks[] = {
	{"mutex", use_mutex}, {"malloc", use_malloc}, {"stdio", use_stdio}, {"env", use_env}, {"tz", use_tz},
	{"random", use_random}, {"nss", use_nss}, {"resolver", use_resolver}, {"loader", use_loader},
	{"locale", use_locale}, {"syslog", use_syslog}, {"none", use_none},
};

static void (*use)(void);

static void guarded_use(void)
{
	if (twin)
		pthread_mutex_lock(&guard);
	use();
	if (twin)
		pthread_mutex_unlock(&guard);
}

static void take(void) { pthread_mutex_lock(&guard); }
static void give(void) { pthread_mutex_unlock(&guard); }

static void *refresher(void *unused)
{
	prctl(PR_SET_NAME, "refresher");
	for (;;) {
		guarded_use();
		usleep(500 + chance(1000));
	}
	return unused;
}

int main(int argc, char **argv)
{
	long forks = 1, failed = 0;
	pthread_t thread;

	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "forks=", 6))
			forks = atol(argv[i] + 6);
		else if (!strcmp(argv[i], "twin"))
			twin = 1;
		else
			for (size_t l = 0; l < sizeof locks / sizeof *locks; l++)
				if (!strcmp(argv[i], locks[l].name))
					use = locks[l].use;
	}
	if (!use) {
		fprintf(stderr, "usage: rarelocks LOCK [forks=N] [twin]\n");
		return 2;
	}
#ifdef __GLIBC__
	mallopt(M_ARENA_MAX, 1);
#endif
	if (!(stream = fopen("/dev/null", "w")))
		return 2;
	if (twin)
		pthread_atfork(take, give, give);
	if (pthread_create(&thread, NULL, refresher, NULL))
		return 2;
	write(1, "ready\n", 6);
	for (long i = 0; i < forks; i++) {
		int status;
		usleep(chance(1000));
		pid_t child = fork();
		if (child < 0)
			return 2;
		if (!child) {
			guarded_use();
			_exit(0);
		}
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		failed += status != 0;
	}
	dprintf(1, "done forks=%ld failed=%ld\n", forks, failed);
	return failed ? 1 : 0;
}
