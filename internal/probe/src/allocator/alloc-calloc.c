/*
 * calloc, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void call(void)
{
	for (int i = 0; i < 16; i++)
		free(calloc(100, 37));
}

PROBE("alloc-calloc") { race(call, call); }
