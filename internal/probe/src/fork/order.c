/*
 * Three fork handlers and their order
 * Claim: prepare runs newest first, parent and child oldest first.
 */
#include "../probe.h"

static char ran[32];

static void note(char c) { ran[strlen(ran)] = c; }

#define THREE(N)                                 \
	static void prepare##N(void) { note('0' + N); } \
	static void parent##N(void) { note('a' + N); }  \
	static void child##N(void) { note('A' + N); }

THREE(1)
THREE(2)
THREE(3)

static void call(void)
{
	if (strcmp(ran, "321BCD"))
		wrong("the child saw %s, not 321BCD", ran);
}

PROBE("order")
{
	pthread_atfork(prepare1, parent1, child1);
	pthread_atfork(prepare2, parent2, child2);
	pthread_atfork(prepare3, parent3, child3);
	once(call);
	if (strcmp(ran, "321bcd"))
		wrong("the parent saw %s, not 321bcd", ran);
}
