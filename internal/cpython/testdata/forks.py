# A child of os.fork(), and one of a fork(2) by C code that runs none of
# Python's handlers, both of a parent with a second thread.
import os
import sys
import threading

try:
    import ctypes
    c_fork = ctypes.PyDLL(None).fork
except ImportError:
    c_fork = None

gate = threading.Lock()
gate.acquire()


def vanishing():
    gate.acquire()


def child(kind):
    # The children write in any order.
    os.write(1, b"%d %d %d\n" % (kind, os.getpid(), threading.get_ident()))
    os.read(int(sys.argv[2]), 1)


threading.Thread(target=vanishing, daemon=True).start()
for kind, fork in enumerate((os.fork, c_fork)):
    if fork is None:
        os.write(1, b"no ctypes\n")
    elif fork() == 0:
        child(kind)
        os._exit(0)
os.read(int(sys.argv[2]), 1)
