"""numpy multiplies matrices before the fork and after it, with the flavour of
OpenBLAS that uses OpenMP. OMP_NUM_THREADS must be 2 or more.

Shows: libgomp's team waits at a barrier for threads that the worker does not
have. VICTIM=free does not multiply before the fork."""
import numpy

import held

A = numpy.ones((512, 512))
if held.MODE == "held":
    A @ A


def touch():
    A @ A


app = held.application(touch)
