/*
 * pthread_key_create and pthread_key_delete
 * Claim: works: they take no lock on glibc.
 */
#include "../calls.h"

static void call(void)
{
	pthread_key_t k;
	if (pthread_key_create(&k, NULL) == 0)
		pthread_key_delete(k);
}

PROBE("pthread_key_create")
{
	race(call, call);
}
