/* What the server and the process of a probe share. */
#ifndef SERVER_H
#define SERVER_H

#include "probe.h"

enum result { none, differs, crashed, missing, denied };

/* One page of memory that both have, written by the subject and its children. */
struct state {
	volatile int subject;      /* PID of the probe's own process */
	volatile int child;        /* PID of the child that is not yet collected, 0 for none */
	volatile unsigned forks;   /* children made and waited for */
	volatile unsigned reached; /* those at whose fork a thread was inside the function */
	volatile unsigned moves;   /* changes as long as anything goes on that forks do not show */
	volatile int races;        /* whether reached means something */
	volatile int control;      /* the threads run, and nobody forks */
	volatile enum result result;
	volatile int signal;
	volatile unsigned most; /* forks to try */
	long long deadline;     /* when to stop trying, nanoseconds of the monotonic clock */
	char semaphore[40];
	char text[256];
};

extern struct state *state;

long long now(void);

#endif
