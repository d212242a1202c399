"""A handler of os.register_at_fork wants a lock that another thread holds, which
itself wants one that the main thread holds.

Shows: the hang is inside os.fork(), before the fork, and there is no child. It
writes "ready" just before."""
import os
import threading

LOCK, MAIN = threading.RLock(), threading.RLock()
HELD = threading.Event()


def hold():
    with LOCK:
        HELD.set()
        with MAIN:
            pass


def before():
    with LOCK:
        pass


os.register_at_fork(before=before)
with MAIN:
    threading.Thread(target=hold, name="holder", daemon=True).start()
    HELD.wait()
    print("ready", flush=True)
    os.fork()
