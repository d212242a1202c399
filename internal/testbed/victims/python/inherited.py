"""An application that opens before the fork what each worker should have to
itself: connections, event queues, files, and a thread. What is waited on, each
worker waits on, in threads of its own.

VICTIM says otherwise:
  held       (or unset) everything is opened in the master
  post_fork  each worker opens everything anew: the healthy twin; use it with
             hooks/inherited.py, which both need
  restart    a thread of the master stops before each fork and starts again
             after it, and nothing else is opened
VICTIM_TCP and VICTIM_UNIX are addresses of PostgreSQL, VICTIM_LISTEN a UNIX
socket to listen at; files lie in the working directory. What the kernel
refuses is printed: "refused io_uring 1"."""
import ctypes
import os
import select
import socket
import struct
import threading
import time

import held

MODE = os.environ.get("VICTIM", "held")
LIBC = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, IO_URING_ENTER, GETEVENTS = 425, 426, 1
OPEN = {}


def checked(name, result):
    """The descriptor, or None where the kernel refused it."""
    if result >= 0:
        return result
    print("refused", name, ctypes.get_errno(), flush=True)
    return None


def greet(peer):
    """Logs in to PostgreSQL, or it would hang up in a minute."""
    text = b"user\0postgres\0database\0postgres\0\0"
    peer.sendall(struct.pack("!ii", 8 + len(text), 196608) + text)
    answer = b""
    while not answer.endswith(b"Z\0\0\0\5I"):
        more = peer.recv(4096)
        if not more:
            raise OSError("PostgreSQL hung up: %r" % answer)
        answer += more
    return peer


def connect():
    host, port = os.environ["VICTIM_TCP"].rsplit(":", 1)
    unix = socket.socket(socket.AF_UNIX)
    unix.connect(os.environ["VICTIM_UNIX"])
    return greet(socket.create_connection((host, int(port)))), greet(unix)


def file(name, flags):
    """A file of which some bytes were read or written through this descriptor."""
    fd = os.open(name, flags | os.O_CREAT, 0o644)
    if flags & os.O_ACCMODE == os.O_RDONLY:
        os.read(fd, 4)
    else:
        os.write(fd, b"written before the fork\n")
    return fd


def everything(suffix):
    OPEN["tcp"], OPEN["unix"] = connect()
    # Of no use to poll the queue itself: a pipe that nobody writes to is in it.
    OPEN["pipe"] = os.pipe()
    OPEN["epoll"] = select.epoll()
    OPEN["epoll"].register(OPEN["pipe"][0], select.EPOLLIN)
    OPEN["eventfd"] = checked("eventfd", LIBC.eventfd(0, 0))
    OPEN["timerfd"] = checked("timerfd", LIBC.timerfd_create(time.CLOCK_MONOTONIC, 0))
    OPEN["inotify"] = checked("inotify", LIBC.inotify_init1(0))
    params = ctypes.create_string_buffer(120)
    OPEN["io_uring"] = checked("io_uring", LIBC.syscall(IO_URING_SETUP, 4, params))
    OPEN["rw"] = file("rw" + suffix, os.O_RDWR)
    OPEN["wo"] = file("wo" + suffix, os.O_WRONLY)
    OPEN["append"] = file("append" + suffix, os.O_WRONLY | os.O_APPEND)
    with open("ro" + suffix, "w") as ro:
        ro.write("read before the fork\n")
    OPEN["ro"] = file("ro" + suffix, os.O_RDONLY)
    OPEN["pid"] = file("server.pid" + suffix, os.O_WRONLY) if not suffix else None
    OPEN["pair"] = socket.socketpair()
    OPEN["listen"] = socket.socket(socket.AF_UNIX)
    OPEN["listen"].bind(os.environ["VICTIM_LISTEN"] + suffix)
    OPEN["listen"].listen()


def wait():
    """Waits on each queue in a thread of its own, for ever."""
    buffer = ctypes.create_string_buffer(4096)
    for fd in ("eventfd", "timerfd", "inotify"):
        if OPEN[fd] is not None:
            threading.Thread(target=LIBC.read, args=(OPEN[fd], buffer, 4096), daemon=True).start()
    threading.Thread(target=OPEN["epoll"].poll, daemon=True).start()
    if OPEN["io_uring"] is not None:
        threading.Thread(target=LIBC.syscall, args=(IO_URING_ENTER, OPEN["io_uring"], 0, 1, GETEVENTS, None, 0), daemon=True).start()


def refresh(stop):
    LIBC.prctl(15, b"refresher", 0, 0, 0)  # PR_SET_NAME, as Python does from 3.14 on
    stop.wait()


class Restarted:
    """A thread that is never there at a fork."""

    def start(self):
        self.stop = threading.Event()
        self.thread = threading.Thread(target=refresh, args=(self.stop,), daemon=True)
        self.thread.start()

    def end(self):
        self.stop.set()
        self.thread.join()


def after_fork():
    """What hooks/inherited.py calls in each worker."""
    if MODE == "post_fork":
        everything(".%d" % os.getpid())
    if MODE != "restart":
        # Each worker has a connection of its own besides.
        OPEN["own"] = connect()
        wait()
    print("worker ready", flush=True)


if MODE == "held":
    everything("")
    threading.Thread(target=refresh, args=(threading.Event(),), daemon=True).start()
elif MODE == "restart":
    RESTARTED = Restarted()
    RESTARTED.start()
    os.register_at_fork(before=RESTARTED.end, after_in_parent=RESTARTED.start)

app = held.application(lambda: None)
