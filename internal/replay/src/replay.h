/*
 * Runs small programs of calls, locks and fork handlers on the libc that it was
 * started on, each in a process of its own called the subject, whose threads go
 * only when they are told to. The controller reads programs from its input, one
 * a line, and writes what became of each; the Go side (replay.go, result.go) says how both
 * lines read.
 *
 * A thread stops before each call, and once more within a call that is marked so:
 * there it holds a lock of libc's. The controller lets one thread go at a time and
 * goes on when nothing moves any more: each thread stands at a stop, has ended or
 * sleeps for a lock in the kernel. Nothing is left to luck or to time.
 */
#ifndef REPLAY_H
#define REPLAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
	most_threads = 12,
	most_functions = 256,
	most_calls = 128, /* in a function */
	most_locks = 24,
	most_semaphores = 8,
	most_streams = 8,
	most_libraries = 8,
	most_handlers = 16,
	most_processes = 16, /* of one run */
	most_events = 4096,  /* of one process */
	most_turns = 4096,
	nobody = -1,
};

/* One call of a function: what it is, and its operand. */
struct call {
	const struct verb *verb;
	int operand;
	int within; /* stop within it, too */
};

struct function {
	int library; /* whose code it is, nobody for the program's own */
	int calls;
	struct call call[most_calls];
};

struct handler {
	int library;
	int function[3]; /* prepare, parent, child; nobody where there is none */
};

struct library {
	int loaded, load, unload; /* functions */
};

struct program {
	char name[64];
	int arenas, locks, semaphores, streams, libraries, handlers, functions, threads;
	char lock[most_locks]; /* n normal, r recursive, e errorcheck */
	struct library library[most_libraries];
	struct handler handler[most_handlers];
	struct function function[most_functions];
	int thread[most_threads]; /* the function that each runs */
	int registered, atfork[most_handlers]; /* handlers, before the threads start */
	int turns, end; /* end: threads that are done end, since others join them */
	unsigned char turn[most_turns]; /* which thread goes next; then the first that can */
};

/* What the processes of a run share with the controller. */
enum standing { going, standing, ended };

struct seat { /* of a thread of the subject */
	_Atomic int standing, turns, tid;
};

struct event {
	unsigned char thread, function, call, what;
};

struct history { /* of a process */
	_Atomic int pid, events;
	int parent, fork; /* the history of its parent, and which of its forks it was */
	struct event event[most_events];
};

struct shared {
	_Atomic int news; /* raised, and woken, when something has happened */
	struct seat seat[most_threads];
	struct {
		int pid, status;
	} waited[most_processes]; /* what the program's own waits took from the controller */
	_Atomic int waits, histories;
	struct history history[most_processes];
};

extern struct shared *shared;
extern struct program program; /* the one that runs */
extern pthread_t thread_of[most_threads];

/* What happened, in a history. */
enum { enters = 'f', leaves = 'l', begins = 'b', returns = 'e', stops = 'i', misses = 'm', fails = 'x' };
void record(int what);

/* parse.c: NULL, or what is wrong with the line. */
const char *parse(char *line);

/* calls.c */
struct verb {
	const char *name;
	int takes; /* how many of what there are, for the operand; nobody: none */
	void (*run)(int operand);
	int within; /* what a stop within it waits for: in_ below, 0 if it has none */
};
const struct verb *verb_named(const char *name);
int operands(const struct verb *v); /* how many of what it takes there are, nobody: it takes none */
void prepare_calls(void); /* before there are threads */
void prepare_thread(void);
int left_out(const struct call *c); /* whether a call is not made where it stands */
void go_on_in(int library); /* runs code of a library, unless it is nobody */

/* subject.c */
void subject(void) __attribute__((noreturn));
void run_function(int function);
void stop(void);
int forked(void); /* whether this is no more the subject */
int begin_fork(void); /* returns what end_fork is to be given */
void end_fork(int outer);
extern __thread int me;

/* within.c: stops inside of libc. */
enum { in_memory = 1, in_open = 2, in_callback = 4, in_write = 8 };
void prepare_within(void);
void arm(int where);  /* the next such thing that this thread does is a stop */
int armed(void);
void callback(void);
long raw(long number, long a, long b, long c, long d, long e, long f);

/* wait.c */
void await(_Atomic int *word, int until); /* until it is at least so much */
void announce(void);

#endif
