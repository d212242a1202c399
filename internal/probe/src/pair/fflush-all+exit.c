/*
 * Threads flush all streams, the child calls exit
 * Claim: works: fork takes the lock of the list of streams.
 */
#include "../calls.h"

PROBE("fflush-all+exit")
{
	race(do_flush_all, do_exit);
}
