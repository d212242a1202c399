"""A thread logs to gunicorn's error log at the fork, and --error-logfile is set.

Shows: the worker hangs at its first line, "Booting worker", in the lock of the
log stream's io.BufferedWriter, which no fork handler of CPython repairs.
As it is the thread logs all the time, and whether a fork hits it is a matter of
chance, though a likely one. With hooks/writing.py and a FIFO that nobody reads
as the log, each fork does. VICTIM=free logs nothing."""
import logging
import os
import threading

import held

LOG = logging.getLogger("gunicorn.error")
WRITING = []


def chatter():
    while True:
        LOG.info("refreshed: %s", "x" * 4000)


def flood():
    LOG.info("x" * (1 << 20))


def await_writing():
    """Starts the thread, once, and returns when it sleeps inside write(): its one
    message is larger than the FIFO."""
    if not WRITING:
        WRITING.append(threading.Thread(target=flood, name="logger", daemon=True))
        WRITING[0].start()
        held.await_call(WRITING[0], "write")


if held.MODE == "held" and os.environ.get("VICTIM_LOG") != "fifo":
    threading.Thread(target=chatter, name="logger", daemon=True).start()


def touch():
    LOG.info("touched")


app = held.application(touch)
