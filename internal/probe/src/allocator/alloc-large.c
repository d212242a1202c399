/*
 * malloc and free of large blocks, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

static void call(void) { free(malloc(40 << 20)); }

PROBE("alloc-large") { race(call, call); }
