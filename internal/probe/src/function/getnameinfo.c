/*
 * getnameinfo of 127.0.0.1
 * Claim: hangs on glibc: it takes the locks of the resolver and of the name service switch, which
 * are never made new.
 */
#include "../calls.h"
#include <netinet/in.h>

static void call(void)
{
	char host[64];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	getnameinfo((struct sockaddr *)&a, sizeof a, host, sizeof host, NULL, 0, 0);
}

PROBE("getnameinfo")
{
	race(call, call);
}
