/*
 * fopen and fclose
 * Claim: works: fork takes the lock of the list of streams.
 */
#include "../calls.h"

PROBE("fopen")
{
	race(do_fopen, do_fopen);
}
