/*
 * cuserid's cousin getlogin_r
 * Claim: works: it reads a file of the kernel, and takes the lock of utmp only where that says
 * nothing.
 */
#include "../calls.h"

static void call(void)
{
	char name[64];
	getlogin_r(name, sizeof name);
}

PROBE("getlogin")
{
	race(call, call);
}
