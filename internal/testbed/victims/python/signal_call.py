"""signal_call.py KIND: signal_lock.py, with a function written in C between the
program and the lock: it calls the lock's acquire.

KIND: call     the lock is an argument of that function
      within   so it is, within a with statement for another lock
      iter     the function has the method itself
      alarm    no such function: a with statement, with SIGALRM as its limit

Shows: a lock as a signal, though no call of acquire is seen, and though the
program is inside of a with statement. SIGUSR1 wakes it, for alarm SIGALRM."""
import operator
import os
import signal
import sys
import threading

told = threading.Lock()
other = threading.Lock()
told.acquire()
signal.signal(signal.SIGUSR1, lambda number, frame: told.release())
acquire = operator.methodcaller("acquire")
print("ready pid=%d" % os.getpid(), flush=True)
if sys.argv[1] == "call":
    acquire(told)
elif sys.argv[1] == "within":
    with other:
        acquire(told)
elif sys.argv[1] == "alarm":
    def late(number, frame):
        raise TimeoutError
    signal.signal(signal.SIGALRM, late)
    signal.alarm(3600)
    try:
        with told:
            pass
    except TimeoutError:
        pass
else:
    next(iter(told.acquire, None))
print("woken", flush=True)
