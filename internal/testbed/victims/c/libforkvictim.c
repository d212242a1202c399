// A library with a pthread mutex that it does not look after at a fork.
//
// Shows: the lock is found by its symbol, g_lock, and names its owner.
// victim_hold takes the lock and never returns; victim_start_holder starts a
// thread that does so; victim_await_held returns when somebody has the lock;
// victim_touch takes it and gives it back.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER;
static volatile int held;

void victim_hold(void)
{
	pthread_mutex_lock(&g_lock);
	held = 1;
	for (;;)
		pause();
}

static void *holder(void *unused)
{
	victim_hold();
	return unused;
}

void victim_start_holder(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, holder, NULL))
		abort();
	pthread_setname_np(thread, "native-holder");
}

void victim_await_held(void)
{
	while (!held)
		usleep(1000);
}

void victim_touch(void)
{
	pthread_mutex_lock(&g_lock);
	pthread_mutex_unlock(&g_lock);
}
