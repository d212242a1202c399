/*
 * getdelim of a long line
 * Claim: works: malloc's locks and the stream's are made new.
 */
#include "../calls.h"

PROBE("getdelim")
{
	race(do_getdelim, do_getdelim);
}
