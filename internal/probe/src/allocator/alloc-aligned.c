/*
 * posix_memalign, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void call(void)
{
	void *p = NULL;
	if (posix_memalign(&p, 4096, 10000) == 0)
		free(p);
}

PROBE("alloc-aligned") { race(call, call); }
