/* pools.yaml in Promela, written by hand, to compare the explorer with SPIN: with every
 * interleaving both have the same number of states. No process dies, which would be
 * a step more, and rounds are written out as they are there. */

byte x0, x1, x2, x3, x4, x5;

inline take(l)    { atomic { l == 0 -> l = _pid + 1 } }
inline pair(a, b) { take(a); take(b); b = 0; a = 0 }

active proctype t0() { pair(x0, x1); pair(x0, x1); pair(x0, x1); end: false }
active proctype t1() { pair(x1, x2); pair(x1, x2); pair(x1, x2); end: false }
active proctype t2() { pair(x2, x3); pair(x2, x3); end: false }
active proctype t3() { pair(x3, x4); pair(x3, x4); end: false }
active proctype t4() { pair(x4, x5); pair(x4, x5); end: false }
active proctype t5() { pair(x5, x0); pair(x5, x0); end: false }
