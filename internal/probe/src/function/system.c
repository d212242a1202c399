/*
 * system
 * Claim: works: its lock is held but for an instant; it is never made new.
 */
#include "../calls.h"

PROBE("system")
{
	race(do_system, do_system);
}
