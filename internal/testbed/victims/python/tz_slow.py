"""A thread is reading the time zone's file at the fork: the file is a FIFO.

Shows: the worker waits for glibc's tzset_lock, a bare word without an owner,
inside localtime_r(); each fork hits it. The master would too at its next line
of log, so hooks/clock.py starts the thread just before the first fork, after
which the master writes none. VICTIM=free has no thread."""
import ctypes
import os
import tempfile
import threading

import held

LIBC = ctypes.CDLL(None)
NOW = ctypes.c_long(0)
BROKEN_DOWN = ctypes.create_string_buffer(64)
STARTED = []


def read_zone():
    """Starts the thread, once, and returns when it has the lock."""
    if held.MODE != "held" or STARTED:
        return
    STARTED.append(True)
    zone = tempfile.mkdtemp() + "/zone"
    os.mkfifo(zone)
    os.environ["TZ"] = ":" + zone
    thread = threading.Thread(target=LIBC.tzset, name="clock", daemon=True)
    thread.start()
    held.await_call(thread, "openat")


def touch():
    LIBC.localtime_r(ctypes.byref(NOW), BROKEN_DOWN)


app = held.application(touch)
