/*
 * malloc and free of many sizes, as every other thread does
 * Claim: works with glibc's own malloc; another allocator must hold its locks at fork by handlers
 * of its own.
 */
#include "../probe.h"
#include "../calls.h"

PROBE("alloc-many-sizes") { race(do_malloc, do_malloc); }
