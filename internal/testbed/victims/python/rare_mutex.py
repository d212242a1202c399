"""A pthread mutex of a C library (c/librare.c; VICTIM_LIB is its path), which a
Python thread has it take through ctypes, for some ten microseconds.

Shows: a lock that names its owner."""
import ctypes
import os

import held
import rare

LIB = ctypes.CDLL(os.environ["VICTIM_LIB"])


def touch():
    LIB.rare_lookup(1)


if rare.MODE == "handlers":
    LIB.rare_protect()
rare.setup(lambda: rare.start(LIB.rare_refresh))
app = held.application(touch)
