/* The library that programs load and unload: replay has it within itself. */
#include <pthread.h>

/* The program's. */
void replay_loaded(void (*add)(int handler, int which), void (*enter)(int function), int (*here)(void));
void replay_unloaded(int library);
void replay_handler(int handler, int which);
void replay_enter(int function);
extern int replay_loading;

static int number;

#define TRAMPOLINES(n)                                       \
	static void prepare_##n(void) { replay_handler(n, 0); } \
	static void parent_##n(void) { replay_handler(n, 1); }  \
	static void child_##n(void) { replay_handler(n, 2); }
#define NAMES(n) {prepare_##n, parent_##n, child_##n},
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
EACH(TRAMPOLINES)
static void (*const trampolines[][3])(void) = {EACH(NAMES)};

/* Registers a handler as this library's. Bits of which: prepare, parent, child. */
static void add(int handler, int which)
{
	void (*const *t)(void) = trampolines[handler];
	pthread_atfork(which & 1 ? t[0] : NULL, which & 2 ? t[1] : NULL, which & 4 ? t[2] : NULL);
}

/* A function whose code is gone once the library is unmapped. */
static void enter(int function)
{
	replay_enter(function);
	__asm__ volatile("" ::: "memory"); /* no tail call: it comes back to here */
}

static int here(void) { return number; }

static __attribute__((constructor)) void load(void)
{
	number = replay_loading;
	replay_loaded(add, enter, here);
}

static __attribute__((destructor)) void unload(void) { replay_unloaded(number); }
