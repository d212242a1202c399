# A thread sleeps in C with the GIL held, and the main thread, in C without it,
# has a signal handler that is fork(2) itself: a fork as C libraries do it, while
# another thread has the GIL.
import os
import sys
import threading

try:
    import ctypes
except ImportError:
    os.write(1, b"no ctypes\n")
    sys.exit()

SIGUSR2 = 12
keeps, drops = ctypes.PyDLL(None), ctypes.CDLL(None)
drops.signal.restype = ctypes.c_void_p
drops.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
drops.signal(SIGUSR2, ctypes.cast(drops.fork, ctypes.c_void_p))


def holder():
    os.write(1, b"%d %d\n" % (threading.get_ident(), threading.get_native_id()))
    keeps.pause()


def main():
    threading.Thread(target=holder, daemon=True).start()
    os.write(1, b"%d\n" % threading.get_ident())
    drops.pause()


main()
