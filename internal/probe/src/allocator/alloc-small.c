/*
 * malloc and free of small blocks, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void call(void)
{
	void *volatile p[64];
	for (int i = 0; i < 64; i++)
		p[i] = malloc(32);
	for (int i = 0; i < 64; i++)
		free(p[i]);
}

PROBE("alloc-small") { race(call, call); }
