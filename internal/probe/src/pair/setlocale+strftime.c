/*
 * Threads set the locale, the child formats a time
 * Claim: works: strftime reads the locale without its lock.
 */
#include "../calls.h"

PROBE("setlocale+strftime")
{
	race(do_setlocale, do_strftime);
}
