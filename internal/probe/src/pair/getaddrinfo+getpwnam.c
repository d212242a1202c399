/*
 * Threads look up hosts, the child looks up a user
 * Claim: hangs on glibc before 2.33, where one lock serves the whole name service switch.
 */
#include "../calls.h"

PROBE("getaddrinfo+getpwnam")
{
	race(do_getaddrinfo, do_getpwnam);
}
