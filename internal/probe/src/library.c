/* The library that probes open and close. */
#include <pthread.h>
#include <stdlib.h>

/* Fork handlers that belong to this library: they go when it is closed. */
int handlers(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	return pthread_atfork(prepare, parent, child);
}

/* Calls the function whose address stands in the environment, if any does. */
static __attribute__((constructor)) void construct(void)
{
	const char *address = getenv("FORKPROOF_CONSTRUCTOR");
	if (address)
		((void (*)(void))strtoul(address, NULL, 16))();
}
