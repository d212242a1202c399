"""What the victims share: a thread that holds a lock while the master forks.

hold(lock) starts the thread "refresher" and returns when the thread has the
lock, so that every fork from then on finds it held. VICTIM says otherwise:
  held       (or unset) the thread holds the lock for ever
  free       the thread had the lock and gave it back: the healthy twin
  post_fork  no thread before the fork: hooks/post_fork.py starts one in each
             worker, which had the lock and gave it back: the other twin
"""
import os
import threading
import time

MODE = os.environ.get("VICTIM", "held")


def refresh(lock, ready):
    """Reads the configuration again, for ever, as its author would say."""
    with lock:
        if MODE == "held":
            ready.set()
            while True:
                time.sleep(3600)
    ready.set()
    while True:
        time.sleep(3600)


def hold(lock):
    """Starts the refresher, and returns when the lock is as VICTIM says."""
    if MODE == "post_fork" and not FORKED:
        LATER.append(lock)
        return
    ready = threading.Event()
    threading.Thread(target=refresh, args=(lock, ready), name="refresher", daemon=True).start()
    ready.wait()


CALLS = {"x86_64": {"openat": "257", "write": "1"}, "aarch64": {"openat": "56", "write": "64"}}[os.uname().machine]


def await_call(thread, call):
    """Waits until a thread sleeps in openat(2) or write(2), which only a FIFO makes
    it do: a file on a disk makes it wait in state D, not S."""
    task = "/proc/self/task/%d/" % thread.native_id
    while True:
        with open(task + "syscall") as now, open(task + "stat") as stat:
            if now.read().split()[0] == CALLS[call] and stat.read().rpartition(")")[2].split()[0] == "S":
                return
        time.sleep(0.001)


def await_rest():
    """Waits until all threads but this one sleep."""
    me = threading.get_native_id()
    while True:
        states = []
        for tid in os.listdir("/proc/self/task"):
            if int(tid) != me:
                with open("/proc/self/task/%s/stat" % tid) as stat:
                    states.append(stat.read().rpartition(")")[2].split()[0])
        if set(states) <= {"S"}:
            return
        time.sleep(0.001)


FORKED = []
LATER = []


def after_fork():
    """What hooks/post_fork.py calls in each worker."""
    FORKED.append(True)
    for lock in LATER:
        hold(lock)


def application(touch):
    """A WSGI application that calls touch for /touch and answers anything else
    at once. Its attribute touch is for hooks/touch.py."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/touch":
            touch()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok\n"]

    app.touch = touch
    return app
