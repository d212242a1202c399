/*
 * realloc that grows a block, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void call(void)
{
	void *volatile p = NULL;
	for (size_t n = 64; n < 1 << 20; n *= 4)
		p = realloc(p, n);
	free(p);
}

PROBE("alloc-realloc") { race(call, call); }
