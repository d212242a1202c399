# A recursion of 900 Python frames and one thread that C and Python build
# together.
import os
import threading

gate = threading.Lock()
gate.acquire()


def down(n):
    if n > 1:
        return down(n - 1)
    gate.acquire()


threading.Thread(target=down, args=(900,), daemon=True).start()
os.write(1, b"ready\n")
os.read(int(__import__("sys").argv[2]), 1)
