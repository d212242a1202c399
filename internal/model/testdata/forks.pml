/* forks.yaml on glibc 2.24 in Promela, written by hand, to compare the explorer with
 * SPIN. One step here is one step there: a lock that is taken, one that is let go,
 * the system call of fork. No process dies, which would be a step more, and rounds
 * are written out as they are there. */

byte stream_list, arena_list, arena0, arena1, in0, in1;
byte alone; /* the only thread that a child of fork has, and 1; 0 in the master */

inline take(l) { atomic { l == 0 -> l = _pid + 1 } }
inline use(l)  { take(l); l = 0 }

inline forked() {
	take(stream_list); take(arena_list); take(arena0); take(arena1);
	if
	:: alone = _pid + 1; /* the child */
		arena0 = 0; arena1 = 0; arena_list = 0; in0 = 0; in1 = 0; stream_list = 0;
		use(arena0); use(arena0);
		goto end
	:: skip
	fi;
	arena0 = 0; arena1 = 0; arena_list = 0; stream_list = 0
}
inline lines(in) { take(in); use(arena1); in = 0 }
inline flush()   { take(stream_list); use(in0); use(in1); stream_list = 0 }

active proctype master() { forked(); forked(); forked(); end: false }
active [2] proctype reader0() provided (alone == 0) { lines(in0); lines(in0); lines(in0); end: false }
active [2] proctype reader1() provided (alone == 0) { lines(in1); lines(in1); lines(in1); end: false }
active [2] proctype flusher() provided (alone == 0) { flush(); flush(); end: false }
