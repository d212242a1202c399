"""A thread is importing a module at the fork; the worker imports the same one.

Shows: importlib's lock of that module is held by a thread that is gone."""
import importlib
import os
import threading

import held

READY = threading.Event()


def load():
    importlib.import_module("import_slow")


if held.MODE == "held":
    threading.Thread(target=load, name="loader", daemon=True).start()
    READY.wait()
else:
    os.environ["IMPORT_SLOW"] = "no"
    load()


def touch():
    load()


app = held.application(touch)
