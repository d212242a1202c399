/*
 * popen in the child while other threads of the parent call it
 * Claim: the child hangs on glibc 2.29 to 2.40, where the list's lock is held while the program
 * starts (fixed on the 2.39 and 2.40 branches); before, the window is narrow.
 */
#include "../probe.h"
#include "../calls.h"

PROBE("popen") { race(do_popen, do_popen); }
