/*
 * malloc and free of many sizes
 * Claim: works: fork takes malloc's locks before it copies, on glibc and on musl from 1.2.2.
 */
#include "../calls.h"

PROBE("malloc")
{
	race(do_malloc, do_malloc);
}
