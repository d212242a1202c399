/* The process that a program runs in: its threads, and how they stop. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "replay.h"

__thread int me;
pthread_t thread_of[most_threads];
static __thread int function_now, call_now, forks, fork_now;
static int first_process; /* the subject's, whose threads stop */
static int history_now, history_pid;

/* Waits by a futex that is not private, unlike libc's own: so the controller tells
 * a thread at a stop from one that sleeps for a lock. */
void await(_Atomic int *word, int until)
{
	int now;
	while ((now = atomic_load(word)) < until)
		syscall(SYS_futex, word, 0 /* FUTEX_WAIT */, now, NULL, NULL, 0);
}

void announce(void)
{
	atomic_fetch_add(&shared->news, 1);
	syscall(SYS_futex, &shared->news, 1 /* FUTEX_WAKE */, INT_MAX, NULL, NULL, 0);
}

/* The process ID as the kernel has it: glibc kept a copy until 2.25. */
static int process(void) { return syscall(SYS_getpid); }

void record(int what)
{
	int pid = process();
	if (pid != history_pid) { /* a child, for the first time */
		int n = atomic_fetch_add(&shared->histories, 1);
		if (n >= most_processes)
			_exit(121);
		shared->history[n].parent = history_now;
		shared->history[n].fork = 1000 * me + fork_now; /* forkNumber in predict.go */
		atomic_store(&shared->history[n].pid, pid);
		history_now = n;
		history_pid = pid;
		forks = 0;
	}
	struct history *h = &shared->history[history_now];
	int n = atomic_fetch_add(&h->events, 1);
	if (n >= most_events)
		_exit(122);
	h->event[n] = (struct event){me, function_now, call_now, what};
}

/* Numbers the forks of a thread. A handler may fork within another's fork: which of
 * them made a child is known by the innermost that goes on. */
int begin_fork(void)
{
	int outer = fork_now;
	fork_now = ++forks;
	return outer;
}

void end_fork(int outer) { fork_now = outer; }

int forked(void) { return process() != first_process; }

void stop(void)
{
	if (forked())
		return;
	struct seat *seat = &shared->seat[me];
	int turns = atomic_load(&seat->turns);
	atomic_store(&seat->standing, standing);
	announce();
	await(&seat->turns, turns + 1);
}

void run_function(int function)
{
	if (function == nobody)
		return;
	int function_before = function_now, call_before = call_now;
	const struct function *f = &program.function[function];
	function_now = function;
	call_now = 0;
	record(enters);
	for (int i = 0; i < f->calls; i++) {
		const struct call *c = &f->call[i];
		if (left_out(c))
			continue;
		call_now = i;
		if (i > 0)
			go_on_in(f->library);
		stop();
		record(begins);
		if (c->within)
			arm(c->verb->within);
		c->verb->run(c->operand);
		if (armed()) {
			arm(0);
			record(misses);
		}
		record(returns);
	}
	if (f->calls)
		go_on_in(f->library);
	record(leaves);
	function_now = function_before;
	call_now = call_before;
}

static void *thread(void *number)
{
	me = (intptr_t)number;
	struct seat *seat = &shared->seat[me];
	atomic_store(&seat->tid, syscall(SYS_gettid));
	prepare_thread();
	run_function(program.thread[me]);
	atomic_store(&seat->standing, ended);
	announce();
	if (me == 0 || !program.end)
		await(&seat->turns, INT_MAX);
	return NULL;
}

void subject(void)
{
	first_process = history_pid = process();
	atomic_store(&shared->histories, 1);
	shared->history[0].parent = nobody;
	atomic_store(&shared->history[0].pid, first_process);
	prepare_within();
	prepare_calls();
	for (intptr_t i = 1; i < program.threads; i++)
		if (pthread_create(&thread_of[i], NULL, thread, (void *)i))
			_exit(123);
	thread((void *)0);
	_exit(0);
}
