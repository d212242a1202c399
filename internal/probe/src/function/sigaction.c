/*
 * signal, which is sigaction
 * Claim: works: it takes no lock on glibc; musl holds its own at fork for SIGABRT only.
 */
#include "../calls.h"

static void call(void) { signal(SIGUSR1, SIG_IGN); }

PROBE("sigaction")
{
	race(call, call);
}
