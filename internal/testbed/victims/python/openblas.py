"""numpy computes before the fork and after it, with the flavour of OpenBLAS that
uses OpenMP. OMP_NUM_THREADS must be 2 or more.

Shows: libgomp's team waits for threads that the worker does not have. In a
product of a matrix and a vector the parts do not depend on each other, and the
worker sleeps at the barrier behind them; in a product of two matrices
(VICTIM_PRODUCT=matrices) OpenBLAS itself spins for the other threads' parts,
in sched_yield(2). VICTIM=free computes nothing before the fork."""
import os

import numpy

import held

A = numpy.ones((512, 512))
B = A if os.environ.get("VICTIM_PRODUCT") == "matrices" else numpy.ones(512)
if held.MODE == "held":
    A @ B


def touch():
    A @ B


app = held.application(touch)
