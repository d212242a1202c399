/*
 * Threads translate, the child sets its locale
 * Claim: hangs on glibc: gettext reads the locale under its lock.
 */
#include "../calls.h"

PROBE("gettext+setlocale")
{
	race(do_gettext, do_setlocale);
}
