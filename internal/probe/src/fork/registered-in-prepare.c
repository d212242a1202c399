/*
 * A handler registered by a prepare handler, in a process of one thread
 * Claim: the new handlers do not run for this fork, from glibc 2.36 on; on 2.28 to 2.35 parent and
 * child may run them.
 */
#include "../probe.h"

static char ran[32];

static void note(char c) { ran[strlen(ran)] = c; }
static void prepare2(void) { note('2'); }
static void parent2(void) { note('b'); }
static void child2(void) { note('B'); }
static void prepare1(void)
{
	note('1');
	pthread_atfork(prepare2, parent2, child2);
}
static void parent1(void) { note('a'); }
static void child1(void) { note('A'); }

static void call(void)
{
	if (strcmp(ran, "1A"))
		wrong("the child saw %s, not 1A", ran);
}

PROBE("registered-in-prepare")
{
	pthread_atfork(prepare1, parent1, child1);
	once(call);
	if (strcmp(ran, "1a"))
		wrong("the parent saw %s, not 1a", ran);
}
