/*
 * Threads call popen, the child calls exit
 * Claim: works.
 */
#include "../calls.h"

PROBE("popen+exit")
{
	race(do_popen, do_exit);
}
