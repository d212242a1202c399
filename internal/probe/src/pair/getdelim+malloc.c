/*
 * Threads read long lines, the child allocates
 * Claim: works.
 */
#include "../calls.h"

PROBE("getdelim+malloc")
{
	race(do_getdelim, do_malloc);
}
