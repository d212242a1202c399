"""A threading.Lock of a module, held by a refresher thread at the fork.

Shows: a worker waits for it in a semaphore that names no owner."""
import threading

import held

LOCK = threading.Lock()
held.hold(LOCK)


def touch():
    with LOCK:
        pass


app = held.application(touch)
