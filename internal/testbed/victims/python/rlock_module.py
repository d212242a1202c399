"""A threading.RLock of a module, held by a refresher thread at the fork.

Shows: the lock object names its owner by the thread's ident, which is its
pthread_t and belongs to no thread of the worker."""
import threading

import held

LOCK = threading.RLock()
held.hold(LOCK)


def touch():
    with LOCK:
        pass


app = held.application(touch)
