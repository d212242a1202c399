/*
 * pthread_create and pthread_join
 * Claim: works: the locks of the cache of stacks are made new.
 */
#include "../calls.h"

PROBE("pthread_create")
{
	race(do_pthread_create, do_pthread_create);
}
