"""Two locks of a module, both held by one thread at the fork, of which a worker
wants the first.

Shows: hazards lie in layers: behind the lock that the worker waits for is
another one that it will wait for next."""
import threading
import time

import held

FIRST, SECOND = threading.Lock(), threading.RLock()


def hold(ready):
    with FIRST:
        with SECOND:
            ready.set()
            while held.MODE == "held":
                time.sleep(3600)


def touch():
    with FIRST:
        with SECOND:
            pass


READY = threading.Event()
threading.Thread(target=hold, name="refresher", args=(READY,), daemon=True).start()
READY.wait()
app = held.application(touch)
