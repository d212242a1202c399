# Threads that never stand still: each calls the same chain of functions, over
# and over.
import os
import sys
import threading


def third(n):
    return sum(i * n for i in range(30))


def second(n):
    return [third(i) for i in range(n)]


def first():
    while True:
        second(5)


for _ in range(2):
    threading.Thread(target=first, daemon=True).start()
os.write(1, b"ready\n")
os.read(int(sys.argv[2]), 1)
