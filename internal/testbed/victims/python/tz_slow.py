"""A thread is reading the time zone's file at the fork: the file is a FIFO.

Shows: the worker waits for glibc's tzset_lock, a bare word without an owner,
inside localtime_r(); each fork hits it. VICTIM=free has no thread."""
import ctypes
import os
import tempfile
import threading
import time

import held

LIBC = ctypes.CDLL(None)
NOW = ctypes.c_long(0)
BROKEN_DOWN = ctypes.create_string_buffer(64)

if held.MODE == "held":
    zone = tempfile.mkdtemp() + "/zone"
    os.mkfifo(zone)
    os.environ["TZ"] = ":" + zone
    thread = threading.Thread(target=LIBC.tzset, name="clock", daemon=True)
    thread.start()
    call = "/proc/self/task/%d/wchan" % thread.native_id
    while "fifo" not in open(call).read():
        time.sleep(0.001)


def touch():
    LIBC.localtime_r(ctypes.byref(NOW), BROKEN_DOWN)


app = held.application(touch)
