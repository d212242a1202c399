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

# OpenBLAS computes a small product on one thread, and what is small grew: 512 by
# 512 times a vector is since 0.3.29, and was not in 0.3.21.
MATRICES = os.environ.get("VICTIM_PRODUCT") == "matrices"
SIZE = 512 if MATRICES else 1536
A = numpy.ones((SIZE, SIZE))
B = A if MATRICES else numpy.ones(SIZE)
if held.MODE == "held":
    A @ B
    # A team that rests is one that the copy of it seems to have: until then the
    # worker would sleep at the barrier where work is handed out.
    held.await_rest()


def touch():
    A @ B


app = held.application(touch)
