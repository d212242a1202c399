/*
 * bindtextdomain and gettext
 * Claim: hangs on glibc: the locks of the message catalogues are never made new.
 */
#include "../calls.h"

PROBE("gettext")
{
	race(do_gettext, do_gettext);
}
