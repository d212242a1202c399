/*
 * Threads open files, the child calls exit
 * Claim: works.
 */
#include "../calls.h"

PROBE("fopen+exit")
{
	race(do_fopen, do_exit);
}
