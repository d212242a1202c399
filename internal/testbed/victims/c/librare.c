// A library with a table behind a pthread mutex, which a thread of the program
// builds anew now and then: the lock is held for some ten microseconds each time.
//
// Shows: a fork seldom meets the lock, and no handler looks after it.
// rare_protect registers fork handlers that take it and give it back: then the
// library is its own healthy twin. rare_refresh builds the table; rare_lookup
// reads it.
#include <pthread.h>
#include <stdlib.h>

pthread_mutex_t g_table_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned table[1024];

static int ascending(const void *a, const void *b)
{
	const unsigned *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

void rare_refresh(void)
{
	static unsigned state = 1;
	pthread_mutex_lock(&g_table_lock);
	for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
		table[i] = state = state * 1664525 + 1013904223;
	qsort(table, sizeof table / sizeof *table, sizeof *table, ascending);
	pthread_mutex_unlock(&g_table_lock);
}

unsigned rare_lookup(unsigned i)
{
	pthread_mutex_lock(&g_table_lock);
	unsigned value = table[i % (sizeof table / sizeof *table)];
	pthread_mutex_unlock(&g_table_lock);
	return value;
}

static void take(void) { pthread_mutex_lock(&g_table_lock); }
static void give(void) { pthread_mutex_unlock(&g_table_lock); }

int rare_protect(void) { return pthread_atfork(take, give, give); }
