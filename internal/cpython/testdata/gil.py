# One thread spins, so that the GIL is nearly always its own; the main thread
# waits for a byte, and then the spinner ends.
import os
import sys
import threading

go = True


def spin():
    os.write(1, b"%d %d\n" % (threading.get_ident(), threading.get_native_id()))
    while go:
        pass


t = threading.Thread(target=spin)
t.start()
sys.stdin.close()
os.read(int(sys.argv[2]), 1)
go = False
t.join()
os.write(1, b"done\n")
os.read(int(sys.argv[2]), 1)
