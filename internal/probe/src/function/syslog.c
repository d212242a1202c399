/*
 * openlog and closelog, which share the lock of syslog; nothing is logged
 * Claim: hangs on glibc: the lock of syslog is never made new.
 */
#include "../calls.h"
#include <syslog.h>

static void call(void)
{
	openlog("forkproof", 0, LOG_USER);
	closelog();
}

PROBE("syslog")
{
	race(call, call);
}
