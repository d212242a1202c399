/*
 * getaddrinfo of localhost
 * Claim: hangs on glibc: the lock of the resolver's configuration is never made new; every network
 * client comes here.
 */
#include "../calls.h"

PROBE("getaddrinfo")
{
	race(do_getaddrinfo, do_getaddrinfo);
}
