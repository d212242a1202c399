"""A pure-Python thread that logs to a file; the worker logs too.

Shows: logging looks after its own locks at a fork, but nothing does after that
of the stream's io.BufferedWriter, which is held during write(2). The healthy twin
logs under a lock that fork handlers take; VICTIM=post_fork logs before no fork."""
import logging
import os
import threading

import held
import rare

LOG = logging.getLogger("victim")
LOG.propagate = False
LOG.setLevel(logging.INFO)
LOG.addHandler(logging.FileHandler(os.path.join(os.environ.get("VICTIM_WORK") or "/tmp", "rare_logging.out")))
GUARD = threading.Lock()


def write(text, *args):
    if rare.MODE == "handlers":
        with GUARD:
            LOG.info(text, *args)
    else:
        LOG.info(text, *args)


def touch():
    write("worker %d works", os.getpid())


rare.protect(GUARD.acquire, GUARD.release)
rare.setup(lambda: rare.start(lambda: write("refreshed %d entries", 100)))
app = held.application(touch)
