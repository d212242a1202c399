"""Workers that compute for ever from their boot on (hooks/touch.py), and wait
for nothing: none of them may be taken for one that spins.

VICTIM_WORK says at what: loop (Python code), hash (a C extension, without the
interpreter's lock), numpy (OpenBLAS; with OMP_NUM_THREADS=1 on one thread, else
with a team that the worker made itself)."""
import hashlib
import os

import held


def loop():
    n = 0
    while True:
        n += 1


def digest():
    data = bytes(1 << 20)
    while True:
        hashlib.sha256(data).digest()


def product():
    import numpy

    a = numpy.ones((512, 512))
    while True:
        a @ a


touch = {"loop": loop, "hash": digest, "numpy": product}[os.environ["VICTIM_WORK"]]

app = held.application(touch)
