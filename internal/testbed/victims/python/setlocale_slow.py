"""A thread is loading a locale at the fork: its file is a FIFO, as it would be
on a file system that does not answer.

Shows: the worker waits for glibc's __libc_setlocale_lock, a pthread rwlock held
for writing, which names its owner; each fork hits it. VICTIM=free has no thread."""
import ctypes
import locale
import os
import tempfile
import threading

import held

LIBC = ctypes.CDLL(None)

if held.MODE == "held":
    folder = tempfile.mkdtemp()
    os.mkdir(folder + "/slow")
    os.mkfifo(folder + "/slow/LC_CTYPE")
    os.environ["LOCPATH"] = folder
    # Through ctypes, because locale.setlocale would keep the interpreter's lock.
    thread = threading.Thread(target=LIBC.setlocale, args=(locale.LC_CTYPE, b"slow"), name="locale", daemon=True)
    thread.start()
    held.await_call(thread, "openat")


def touch():
    LIBC.setlocale(locale.LC_CTYPE, b"C")


app = held.application(touch)
