"""A thread multiplies matrices with numpy now and then; so does each worker.

Shows: with the flavour of OpenBLAS that has threads of its own (LD_LIBRARY_PATH
says openblas-pthread) its fork handler stops them while another thread computes
with them; with the flavour that uses OpenMP the team belongs to the thread that
computed, which no worker has. VICTIM=handlers computes under a lock that fork
handlers take."""
import threading

import numpy

import held
import rare

A = numpy.ones((256, 256))
GUARD = threading.Lock()


def compute():
    if rare.MODE == "handlers":
        with GUARD:
            A @ A
    else:
        A @ A


def touch():
    compute()


rare.protect(GUARD.acquire, GUARD.release)
rare.setup(lambda: rare.start(compute))
app = held.application(touch)
