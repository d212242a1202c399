"""lock_module.py with a worker that calls lock.acquire() by itself, without a
with statement.

Shows: who waits so may wait for a signal (signal_lock.py); that it is mutual
exclusion is told by the thread of the master that holds the lock."""
import threading

import held

LOCK = threading.Lock()
held.hold(LOCK)


def touch():
    LOCK.acquire()
    LOCK.release()


app = held.application(touch)
