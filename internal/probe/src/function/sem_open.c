/*
 * sem_open and sem_close
 * Claim: hangs on glibc: the lock of the table of semaphores is never made new. musl from 1.2.2
 * holds its own at fork.
 */
#include "../calls.h"
#include <semaphore.h>

static void call(void)
{
	sem_t *s = sem_open(semaphore_name(), O_CREAT, 0600, 1);
	if (s != SEM_FAILED)
		sem_close(s);
}

PROBE("sem_open")
{
	if (sem_open(semaphore_name(), O_CREAT, 0600, 1) == SEM_FAILED)
		refused("sem_open");
	race(call, call);
}
