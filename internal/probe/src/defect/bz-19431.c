/*
 * malloc's locks, the list of streams and one stream in a ring: getdelim, fflush(NULL) and fork
 * Claim: the parent hangs before glibc 2.24 (BZ 19431); fixed packages of 2.17 (RHEL 7.4) and 2.23
 * work.
 */
#include "../calls.h"

#include <poll.h>

/* Counts as progress: fork may wait long for its turn without hanging. */
static void *flush(void *arg)
{
	for (;; went_on()) {
		enter(0);
		for (int i = 0; i < 20; i++)
			fflush(NULL);
		leave(0);
		poll(NULL, 0, 1); /* the list's lock is not fair: fork must get it at times */
	}
	return arg;
}

static void *read_lines(void *arg)
{
	for (;; went_on()) {
		enter(1);
		read_long_line(50000);
		leave(1);
	}
	return arg;
}

PROBE("bz-19431")
{
	pthread_t t;
	pthread_create(&t, NULL, flush, NULL);
	pthread_create(&t, NULL, read_lines, NULL);
	raced();
	while (!used_up())
		once(nothing);
}
