"""hostile.py MIB: a worker without any fault whose memory looks as if it had been
forked with locks held: it is full of the thread ids of its parent, as objects and
in arrays, alone and within what looks like the bytes of mutexes and read-write
locks, and of numbers of all sizes.

Shows: what is only a number. It writes "ready child=PID" after the fork."""
import array
import os
import random
import signal
import sys
import threading

for n in range(4):
    threading.Thread(target=threading.Event().wait, name="idle-%d" % n, daemon=True).start()
IDS = [thread.native_id for thread in threading.enumerate()]
MUTEX = [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
RWLOCK = [3, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def held(image, at, owner):
    return image[:at] + [owner] + image[at + 1:]


random.seed(1)
KEEP = [
    IDS * 10000,
    [int(str(n)) for n in IDS * 10000],  # objects of their own
    [{"tid": n, "lock": 1} for n in IDS * 1000],
    array.array("i", IDS * 10000),
    array.array("q", IDS * 10000),
    array.array("i", [word for n in IDS * 200 for word in (n, n, n, 1, 0, 0)]),
    array.array("i", [word for n in IDS * 200 for word in held(MUTEX, 2, n)]),
    array.array("i", [word for n in IDS * 200 for word in held(RWLOCK, 6, n)]),
    array.array("i", range(100000)),
    array.array("q", range(100000)),
    array.array("i", (random.randrange(1 << random.randrange(1, 16)) for _ in range(200000))),
    array.array("i", (random.choice((0, 0, 1, 1, 2, 3) + tuple(IDS)) for _ in range(200000))),
    [random.randbytes(1 << 20) for _ in range(int(sys.argv[1]) // 2)],
    [random.getrandbits(random.randrange(1, 64)) for _ in range((int(sys.argv[1]) << 19) // 40)],
]
child = os.fork()
if child:
    print("ready child=%d" % child, flush=True)
signal.pause()
