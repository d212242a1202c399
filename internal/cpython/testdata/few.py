# Some frames in each of two threads, of plain functions, a method, a generator
# and a comprehension.
import os
import threading

gate = threading.Lock()
gate.acquire()


class Job:
    def run(self):
        return [self.step(n) for n in range(1)]

    def step(self, n):
        return next(self.values(n))

    def values(self, n):
        gate.acquire()
        yield n


threading.Thread(target=Job().run, daemon=True).start()
os.write(1, b"ready\n")
os.read(int(__import__("sys").argv[2]), 1)
