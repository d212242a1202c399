/*
 * Threads look up a user, the child looks up a host
 * Claim: works, but before 2.33 where the lock of the name service switch was held.
 */
#include "../calls.h"

PROBE("getpwnam+getaddrinfo")
{
	race(do_getpwnam, do_getaddrinfo);
}
