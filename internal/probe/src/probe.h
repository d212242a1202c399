/*
 * What every probe is made of. A probe is one file: its header says what is
 * tried and what is claimed, PROBE("its name") is what runs, in a process of its
 * own called the subject, which may start threads and forks children.
 */
#ifndef PROBE_H
#define PROBE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct probe {
	const char *name;
	void (*run)(void);
};

#define PROBE(NAME)                                                                                     \
	static void run(void);                                                                              \
	static const struct probe probe = {NAME, run};                                                      \
	static const struct probe *const entry __attribute__((section("probes"), used)) = &probe;           \
	static void run(void)

/* Two threads run hammer without end; the subject forks until its forks or its
 * time are used up, and each child runs call once. */
void race(void (*hammer)(void), void (*call)(void));

/* Rests after each hammer for so many microseconds, outside. */
void rest(unsigned microseconds);

/* The same without threads hammering and with one fork: the child runs call. */
void once(void (*call)(void));

/* As once, for children that were made otherwise than by fork. */
void collect(pid_t pid);

/* What a child does first, when it was not made by race or once. */
void born(void);

/* What race does, for probes that make their own threads: counts forks that met a
 * thread inside; reached is called in the child. */
void raced(void);
void reached(void);

/* Something goes on that forks do not show. */
void went_on(void);

/* A fork of any kind that must not fail. */
pid_t forked(pid_t (*how)(void));

/* The next signal that ends a child is what the probe wants to see. */
void expect(int signal);

/* n threads that wait for a lock which the main thread never gives up: the
 * process has threads, and none of them is in the way of a proof. */
void idle(int n);

/* Wait for ever in a way that a proof understands. */
void for_ever(void);

/* Ends this process, a child or the subject, with a result. */
void wrong(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void absent(const char *what) __attribute__((noreturn));
void refused(const char *what) __attribute__((noreturn));

/* Opens a small shared library that the probe carries with it: another one for
 * each n from 0 to 3. Its function `handlers` is pthread_atfork called from
 * within the library. */
void *library(int n);
const char *library_path(int n);
int register_from(void *handle, void (*prepare)(void), void (*parent)(void), void (*child)(void));

/* Where a thread is, for race's count of forks that met one inside. */
void enter(int thread);
void leave(int thread);

/* A file that nobody else has open, and a FILE on /dev/null. */
FILE *null_stream(void);

/* The name of this run's semaphore; the server removes it. */
const char *semaphore_name(void);

/* The address of a function which not every libc has, NULL for none. */
void *function(const char *name);

/* Whether the forks or the time of this probe are used up. */
int used_up(void);

/* Makes it so. */
void enough(void);

#endif
