"""A healthy program that sleeps until it is sent SIGUSR1: it waits by
lock.acquire(), and its handler of that signal releases the lock.

Shows: a lock that is no mutual exclusion but a signal. What a tool for
deadlocks sees of it is one thread asleep on a lock that is held."""
import os
import signal
import threading

told = threading.Lock()
told.acquire()
signal.signal(signal.SIGUSR1, lambda number, frame: told.release())
print("ready pid=%d" % os.getpid(), flush=True)
told.acquire()
print("woken", flush=True)
