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
PROC = 5  # an open /proc: a root folder has none of its own
keeps, drops = ctypes.PyDLL(None), ctypes.CDLL(None)
drops.signal.restype = ctypes.c_void_p
drops.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
drops.signal(SIGUSR2, ctypes.cast(drops.fork, ctypes.c_void_p))


def holder(main):
    os.write(1, b"%d %d\n" % (threading.get_ident(), threading.get_native_id()))
    # Only once the main thread sleeps without the GIL: it would never get it back.
    pause = (b"34", b"73")  # pause on x86-64, ppoll, which stands for it, on arm64
    while True:
        call = os.open("self/task/%d/syscall" % main, os.O_RDONLY, dir_fd=PROC)
        at = os.read(call, 200)
        os.close(call)
        if at.split()[0] in pause:
            break
    keeps.pause()


def main():
    os.write(1, b"%d\n" % threading.get_ident())
    threading.Thread(target=holder, args=(threading.get_native_id(),), daemon=True).start()
    drops.pause()


main()
