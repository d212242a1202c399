"""A thread logs to gunicorn's error log at the fork, and --error-logfile is set.

Shows: the worker hangs at its first line, "Booting worker", in the lock of the
log stream's io.BufferedWriter, which no fork handler of CPython repairs.
As it is the thread logs all the time, and whether a fork hits it is a matter of
chance, though a likely one. With hooks/writing.py and a FIFO that nobody reads
as the log, each fork does. VICTIM=free logs nothing."""
import array
import fcntl
import logging
import os
import termios
import threading
import time

import held

LOG = logging.getLogger("gunicorn.error")
WRITING = threading.Event()


def chatter():
    while True:
        LOG.info("refreshed: %s", "x" * 4000)


def flood():
    LOG.info("x" * (1 << 20))


def await_writing(fifo):
    """Starts the thread, once, and returns when the FIFO is full: its one
    message is larger, so the thread stays inside write()."""
    if not WRITING.is_set():
        WRITING.set()
        threading.Thread(target=flood, name="logger", daemon=True).start()
    fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    waiting = array.array("i", [0])
    while waiting[0] < 65536:
        time.sleep(0.001)
        fcntl.ioctl(fd, termios.FIONREAD, waiting)
    os.close(fd)


if held.MODE == "held" and os.environ.get("VICTIM_LOG") != "fifo":
    threading.Thread(target=chatter, name="logger", daemon=True).start()


def touch():
    LOG.info("touched")


app = held.application(touch)
