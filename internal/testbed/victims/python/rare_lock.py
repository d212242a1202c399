"""A threading.Lock of a module, held by a refresher while it reads a file: some
ten microseconds, in which it gives the interpreter's lock away.

Shows: gunicorn's documentation has this hazard of --preload; a semaphore that
names no owner."""
import json
import os
import threading

import held
import rare

LOCK = threading.Lock()
SETTINGS = {}
FILE = os.path.join(os.environ.get("VICTIM_WORK") or "/tmp", "rare_lock.json")


def load():
    with LOCK:
        with open(FILE) as f:
            SETTINGS.update(json.load(f))


def touch():
    with LOCK:
        return SETTINGS.get("name")


if not os.path.exists(FILE):
    with open(FILE + ".%d" % os.getpid(), "w") as f:
        json.dump({"name": "victim", "values": list(range(100))}, f)
    os.rename(f.name, FILE)
rare.protect(LOCK.acquire, LOCK.release)
rare.setup(lambda: rare.start(load))
app = held.application(touch)
