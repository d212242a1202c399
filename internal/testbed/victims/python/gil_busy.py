"""A thread computes, and so has the interpreter's lock nearly always.

Shows, in uWSGI with --enable-threads, which forks without it and without
CPython's fork handlers: the worker waits for an interpreter's lock that no
thread of it has, in a loop of timed waits. VICTIM=free has no thread."""
import threading

import held


def compute():
    n = 0
    while True:
        n += 1


if held.MODE == "held":
    started = threading.Event()
    threading.Thread(target=lambda: (started.set(), compute()), name="computer", daemon=True).start()
    started.wait()


def touch():
    pass


app = held.application(touch)
