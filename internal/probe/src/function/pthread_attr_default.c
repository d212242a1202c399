/*
 * pthread_getattr_default_np and pthread_setattr_default_np
 * Claim: works: the lock of the default attributes is made new (2.34), or held too shortly.
 */
#include "../calls.h"

static int (*get)(pthread_attr_t *), (*set)(const pthread_attr_t *);
static void call(void)
{
	pthread_attr_t a;
	if (get(&a) == 0) {
		set(&a);
		pthread_attr_destroy(&a);
	}
}

PROBE("pthread_attr_default")
{
	get = (int (*)(pthread_attr_t *))function("pthread_getattr_default_np");
	set = (int (*)(const pthread_attr_t *))function("pthread_setattr_default_np");
	if (!get || !set)
		absent("pthread_setattr_default_np");
	race(call, call);
}
