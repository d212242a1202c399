/*
 * free of what another thread allocated, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void *volatile passed[256];
static volatile unsigned turn;

/* Each call frees what somebody left and leaves something of its own. */
static void call(void)
{
	unsigned n = __sync_fetch_and_add(&turn, 1) % 256;
	free(__sync_lock_test_and_set(&passed[n], malloc(48 << (n % 6))));
}

PROBE("alloc-foreign-free") { race(call, call); }
