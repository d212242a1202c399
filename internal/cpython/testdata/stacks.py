# Threads that block for ever in every kind of Python code. The test reads it
# from standard input, so that it needs no file in a root folder, and compiles
# it under a file name of the test's choice.
import faulthandler
import functools
import os
import signal
import sys
import threading
import time

# A minimal Debian package has neither.
try:
    import ctypes
except ImportError:
    ctypes = None
try:
    import queue
except ImportError:
    queue = None

gate = threading.Lock()
gate.acquire()


def block():
    gate.acquire()


# Plain functions, calls over several lines.

def add(*args, **kwargs):
    return args


def multi_line():
    return add(
        1,
        add(
            2,
            block(
            ),
        ),
        key=[
            3,
        ],
    )


def chained():
    class Chain:
        def one(self):
            return self

        def two(self):
            block()
            return self

    (Chain()
        .one()
        .two()
        .one())


def conditional(x=5):
    return (
        1
        if x < 3
        else block()
        if x == 5
        else 2
    )


# Generators, comprehensions, iterators driven from C.

def numbers():
    yield 1
    yield 2
    block()
    yield 3


def outer_numbers():
    yield from numbers()


def generator():
    for _ in outer_numbers():
        pass


def generator_in_c():
    sum(n for n in outer_numbers() if n > 0)


def comprehension():
    return [
        x
        for x in range(3)
        if x != 2
        or block()
    ]


def nested_comprehension():
    return {k: [block() for _ in range(k)] for k in (0, 0, 1)}


# C calls Python back: new evaluation loops on the C stack.

def sort_key():
    return sorted([3, 1, 2],
                  key=lambda x:
                  block() if x == 2 else x)


def reducing():
    def step(a, b):
        if b == 3:
            return list(map(lambda _: sort_key(), [1]))
        return a + b
    return functools.reduce(step, [1, 2, 3])


def ctypes_callback():
    if ctypes is None:
        return block()
    proto = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))

    def compare(a, b):
        block()
        return 0
    array = (ctypes.c_int * 2)(2, 1)
    ctypes.CDLL(None).qsort(array, 2, ctypes.sizeof(ctypes.c_int), proto(compare))


# Classes and what Python calls by itself.

class Point:
    def __init__(self, n):
        self.n = n
        if n == 3000:
            block()


def hot_init():
    # Often enough for the specialised call of __init__ (3.12 and later).
    for i in range(3001):
        Point(i)


class Magic:
    def __getattr__(self, name):
        return self[name]

    def __getitem__(self, key):
        with self:
            pass

    def __enter__(self):
        self.prop

    def __exit__(self, *exc):
        pass

    @property
    def prop(self):
        return self + 1

    def __add__(self, other):
        block()


def magic():
    Magic().anything


def class_body():
    class Inner:
        attribute = 1
        other = block()


def traced(label):
    def wrap(f):
        @functools.wraps(f)
        def call(*args):
            return f(*args)
        return call
    return wrap


@traced("a")
@traced(
    "b"
)
def decorated(x):
    block()


def use_decorated():
    decorated(1)


def executed():
    exec(compile("def made():\n\n    block()\n\nmade()\n", "<made up>", "exec"), {"block": block})


def evaluated():
    eval(compile("[\n block(),\n]", "<evaluated>", "eval"))


class Descriptor:
    def __set_name__(self, owner, name):
        block()


def set_name():
    class Holder:
        field = Descriptor()


# Coroutines, driven without asyncio, which a minimal package does not have.

class Awaitable:
    def __await__(self):
        block()
        yield


async def inner_coroutine():
    await Awaitable()


async def agen():
    yield 1
    await inner_coroutine()


async def coroutine():
    async for _ in agen():
        pass


def drive():
    coroutine().send(None)


# Exceptions.

def in_except():
    try:
        raise ValueError
    except ValueError:
        try:
            1 / 0
        except ZeroDivisionError:
            block()
        finally:
            pass


def in_finally():
    try:
        return 1
    finally:
        block()


def in_with():
    class Ctx:
        def __enter__(self):
            return self

        def __exit__(self, *exc):
            block()
    with Ctx() as a, \
            Ctx() as b:
        add(a,
            b)


# Line tables with wide steps: more than 127 lines, more than 255 bytes, back
# and forth, extended arguments.

def wide():
    table = ["def wide_made(x):"]
    table += ["    x = x + %d" % (i + 1000) for i in range(400)]
    table += [""] * 300
    table += ["    add(x," + "\n" * 200 + " block()," + "\n" * 130 + " x)"]
    table += ["    return x", "wide_made(1)"]
    exec(compile("\n".join(table), "wide", "exec"), {"add": add, "block": block})


def many_names():
    body = "\n".join("    a%d = %d" % (i, i) for i in range(600))
    exec(compile("def names():\n" + body + "\n    block(\n )\nnames()\n", "names", "exec"), {"block": block})


# Names beyond ASCII: Latin-1, two and four bytes per character.

def größe():
    exec(compile("def 名前():\n block()\n名前()", "naïve-日本.py", "exec"), {"block": block})


def four_bytes():
    exec(compile("def 𝔘nicode():\n block()\n𝔘nicode()", "\U0001f40d.py", "exec"), {"block": block})


# Other ways to sleep.

def reading():
    r, w = os.pipe()
    os.read(r, 1)


def sleeping():
    time.sleep(100000)


def waiting():
    threading.Event().wait()


def getting():
    queue.Queue().get() if queue else block()


def joining():
    threads[0].join()


def recursion(n=60):
    if n:
        return recursion(n - 1)
    block()


def mutual(n=30):
    return list(map(mutual, [n - 1])) if n else block()


def nested_threads():
    t = threading.Thread(target=block, daemon=True)
    t.start()
    t.join()


CASES = [
    multi_line, chained, conditional, generator, generator_in_c, comprehension,
    nested_comprehension, sort_key, reducing, ctypes_callback, hot_init, magic,
    class_body, use_decorated, executed, evaluated, set_name, drive, in_except,
    in_finally, in_with, wide, many_names, größe, four_bytes, reading, sleeping,
    waiting, getting, joining, recursion, mutual, nested_threads,
    lambda: block(), functools.partial(add, 1) and (lambda: recursion(3)),
]

threads = [threading.Thread(target=case, daemon=True) for case in CASES]


def main():
    faulthandler.register(signal.SIGUSR1, file=int(sys.argv[1]), all_threads=True, chain=False)
    for t in threads:
        t.start()
    os.write(1, b"ready\n")
    os.read(int(sys.argv[2]), 1)


main()
