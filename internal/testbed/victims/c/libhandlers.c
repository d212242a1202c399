/*
 * Every way in which libraries are known to register handlers of fork, and to
 * call from them. The tests of internal/atfork know by name what they must find:
 * NAME_prepare, NAME_parent and NAME_child belong together.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define CONSTRUCTOR __attribute__((constructor))

typedef void handler(void);

int sink;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The plain case; the child allocates. */
static void plain_prepare(void) { pthread_mutex_lock(&lock); }
static void plain_parent(void) { pthread_mutex_unlock(&lock); }
static void *volatile kept;
static void plain_child(void)
{
	pthread_mutex_unlock(&lock);
	kept = malloc(16);
}
CONSTRUCTOR static void plain(void) { pthread_atfork(plain_prepare, plain_parent, plain_child); }

/* A child handler alone, which ends in a jump. */
static NOINLINE int deeper(const time_t *t) { struct tm *tm = localtime(t); return tm ? tm->tm_sec : 0; }
static NOINLINE int deep(time_t t) { return deeper(&t) + sink; }
static void tail_child(void) { sink = deep(sink); }
CONSTRUCTOR static void tail(void) { pthread_atfork(NULL, NULL, tail_child); }

/* A function of the library that passes handlers on, in another order. */
static NOINLINE int passes(int n, handler *child, handler *parent, handler *prepare)
{
	if (n > sink + 100)
		return -1;
	return pthread_atfork(prepare, parent, child);
}
static void passed_prepare(void) { sink++; }
static void passed_parent(void) { sink--; }
static void passed_child(void) { sink = getpid(); }
static void passed2_child(void) { syslog(LOG_INFO, "forked"); }
CONSTRUCTOR static void passed(void)
{
	if (passes(1, passed_child, passed_parent, passed_prepare) == 0)
		passes(2, passed2_child, NULL, NULL);
}

/* One that other libraries may call, and this one does through its own stub. */
int handlers_public(const char *name, handler *prepare, handler *parent, handler *child);
int handlers_public(const char *name, handler *prepare, handler *parent, handler *child)
{
	sink += (int)strlen(name);
	return pthread_atfork(prepare, parent, child);
}
static void public_child(void) { fflush(NULL); }
CONSTRUCTOR static void public(void) { handlers_public("public", NULL, NULL, public_child); }

/* A static list of functions that the child calls one by one. */
static NOINLINE void list_one(void) { tzset(); }
static NOINLINE void list_two(void) { sink = (int)random(); }
static const struct { const char *name; handler *run; } list[] = { { "one", list_one }, { "two", list_two } };
static void list_child(void)
{
	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		list[i].run();
}
CONSTRUCTOR static void list_(void) { pthread_atfork(NULL, NULL, list_child); }

/* A static list of handlers. */
static void table1_child(void) { sink = 1; }
static void table2_prepare(void) { sink = 2; }
static void table2_child(void) { setenv("A", "b", 1); }
static const struct { handler *prepare, *parent, *child; } table[] = { { NULL, NULL, table1_child }, { table2_prepare, NULL, table2_child } };
CONSTRUCTOR static void tables(void)
{
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		pthread_atfork(table[i].prepare, table[i].parent, table[i].child);
}

/* One of two, by what is known at run time alone. */
static void choice1_child(void) { sink = 3; }
static void choice2_child(void) { sink = (int)write(1, "", 0); }
CONSTRUCTOR static void choice(void) { pthread_atfork(NULL, NULL, getenv("CHOICE") ? choice1_child : choice2_child); }

/* Through pthread_once, and through a function that calls what it is given. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static void once_run(void) { kept = getenv("ONCE"); }
static NOINLINE void calls(handler *run) { sink++; run(); sink--; }
static void given_run(void) { sink = rand(); }
static void once_child(void)
{
	pthread_once(&once, once_run);
	calls(given_run);
}
CONSTRUCTOR static void oncely(void) { pthread_atfork(NULL, NULL, once_child); }

/* Objects with a table of functions, as C programs write them. */
struct object;
struct operations { handler *reset; void (*run)(struct object *); };
struct object { const struct operations *ops; int state; };
static void object_reset(void) { sink = 4; }
static void object_run(struct object *o) { o->state = puts("run"); }
static const struct operations operations = { object_reset, object_run };
static struct object object = { &operations, 0 };
static void object_child(void) { object.ops->run(&object); }
CONSTRUCTOR static void objects(void) { pthread_atfork(NULL, NULL, object_child); }

/* A pointer that somebody sets later: it leads nowhere. */
handler *hook;
static void hook_child(void)
{
	if (hook)
		hook();
}
CONSTRUCTOR static void hooked(void) { pthread_atfork(NULL, NULL, hook_child); }

/* A handler that somebody sets before. */
handler *set_later;
CONSTRUCTOR static void later(void) { pthread_atfork(NULL, NULL, set_later); }

/* A switch that compilers make a table of jumps of. */
static void switch_child(void)
{
	switch (sink) {
	case 10: sink = (int)sleep(0); break;
	case 11: sink = system("true"); break;
	case 12: kept = strdup("a"); break;
	case 13: sink = abs(sink); break;
	case 14: tzset(); break;
	case 15: sink = (int)getppid(); break;
	case 16: kept = tmpfile(); break;
	case 17: srandom(1); break;
	}
}
CONSTRUCTOR static void switched(void) { pthread_atfork(NULL, NULL, switch_child); }

/* What no handler may do on glibc 2.28 to 2.35. */
static void loader_prepare(void) { sink = (int)fork(); }
static void loader_parent(void) { pthread_atfork(NULL, NULL, tail_child); }
static void loader_child(void) { dlclose(kept); }
CONSTRUCTOR static void loader(void) { pthread_atfork(loader_prepare, loader_parent, loader_child); }

/* What is taken for the fork and given back in the parent alone. */
static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER;
static NOINLINE int take(pthread_mutex_t *m) { return pthread_mutex_lock(m) + sink; }
static void left_prepare(void) { sink = take(&left_lock); }
static void left_parent(void) { pthread_mutex_unlock(&left_lock); }
CONSTRUCTOR static void leaves(void) { pthread_atfork(left_prepare, left_parent, NULL); }

/* Not a registration: the library has handlers and calls them itself. */
static void never_child(void) { kept = realloc(NULL, 1); }
void handlers_never(int n);
void handlers_never(int n)
{
	if (n)
		calls(never_child);
}
