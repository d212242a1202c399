/* Calls that more than one probe makes. Each is safe to make from several threads. */
#ifndef CALLS_H
#define CALLS_H

#include "probe.h"

#include <dlfcn.h>
#include <iconv.h>
#include <langinfo.h>
#include <libintl.h>
#include <link.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/socket.h>
#include <time.h>
#include <wchar.h>

#define CALL static __attribute__((unused)) void

extern char **environ;

CALL do_malloc(void)
{
	/* Of many sizes: small ones alone are served from a thread's own cache. */
	static __thread unsigned n;
	void *volatile p[8];
	for (int i = 0; i < 8; i++)
		p[i] = malloc(16u << (n++ % 12));
	for (int i = 0; i < 8; i++)
		free(p[i]);
}

CALL do_setenv(void)
{
	setenv("FORKPROOF_A", "1", 1);
	unsetenv("FORKPROOF_A");
}

CALL do_getenv(void)
{
	if (getenv("FORKPROOF_NONE"))
		abort();
}

CALL do_localtime(void)
{
	struct tm tm;
	time_t t = 86400;
	localtime_r(&t, &tm);
}

CALL do_strftime(void)
{
	char text[64];
	struct tm tm = {.tm_year = 100, .tm_mday = 1, .tm_isdst = -1};
	strftime(text, sizeof text, "%c %Z %s", &tm);
}

CALL do_getpwnam(void) { getpwnam("root"); }

CALL do_getaddrinfo(void)
{
	struct addrinfo *found = NULL, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
	if (getaddrinfo("localhost", "80", &hints, &found) == 0)
		freeaddrinfo(found);
}

CALL do_setlocale(void)
{
	setlocale(LC_ALL, "C");
	setlocale(LC_ALL, "C.UTF-8");
}

CALL do_gettext(void)
{
	bindtextdomain("forkproof", "/nonexistent");
	dgettext("forkproof", "a message");
}

CALL do_iconv(void)
{
	iconv_t c = iconv_open("UTF-16LE", "UTF-8");
	if (c != (iconv_t)-1)
		iconv_close(c);
}

CALL do_mbstowcs(void)
{
	/* A locale's conversion functions are looked up when they are first used. */
	locale_t l = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
	wchar_t out[8];
	if (!l)
		l = newlocale(LC_ALL_MASK, "C", NULL);
	locale_t before = uselocale(l);
	mbstowcs(out, "abc", 8);
	uselocale(before);
	freelocale(l);
}

CALL nothing(void) {}

CALL do_atexit(void) { atexit(nothing); }

/* What is registered stays: it must not become too much. With a rest after it. */
CALL many_atexit(void)
{
	static volatile int left = 200000;
	for (int i = 0; i < 40; i++)
		do_atexit();
	if ((left -= 40) < 0)
		enough();
}

CALL do_exit(void) { exit(0); }

CALL do_popen(void)
{
	FILE *f = popen(":", "r");
	if (f)
		pclose(f);
}

CALL do_system(void)
{
	if (system(":") == 127)
		_exit(0);
}

CALL do_posix_spawn(void)
{
	char *args[] = {"true", NULL};
	pid_t pid;
	if (posix_spawn(&pid, "/bin/true", NULL, NULL, args, environ) == 0)
		waitpid(pid, NULL, 0);
}

CALL do_fopen(void)
{
	FILE *f = fopen("/dev/null", "w");
	if (f) {
		fputs("text", f);
		fclose(f);
	}
}

CALL do_flush_all(void) { fflush(NULL); }

/* A stream of one long line, which needs no file. */
static __attribute__((unused)) ssize_t read_line(void *left, char *out, size_t size)
{
	size_t n = *(size_t *)left < size ? *(size_t *)left : size;
	memset(out, 'a', n);
	*(size_t *)left -= n;
	if (*(size_t *)left == 0 && n > 0)
		out[n - 1] = '\n';
	return (ssize_t)n;
}

/* getdelim, which grows its buffer while it holds the stream. */
CALL read_long_line(size_t length)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = fopencookie(&length, "r", (cookie_io_functions_t){.read = read_line});
	if (!f)
		return;
	if (getdelim(&text, &size, '\n', f) < 0)
		abort();
	fclose(f);
	free(text);
}

CALL do_getdelim(void) { read_long_line(20000); }

CALL do_dlopen(void)
{
	void *h = dlopen(library_path(0), RTLD_NOW);
	if (h)
		dlclose(h);
}

static __attribute__((unused)) int each_object(struct dl_phdr_info *info, size_t size, void *n)
{
	(void)info, (void)size;
	++*(int *)n;
	return 0;
}

CALL do_dl_iterate_phdr(void)
{
	int n = 0;
	dl_iterate_phdr(each_object, &n);
}

static __attribute__((unused)) void *end_at_once(void *arg) { return arg; }

CALL do_pthread_create(void)
{
	pthread_t t;
	if (pthread_create(&t, NULL, end_at_once, NULL) == 0)
		pthread_join(t, NULL);
}

#endif
