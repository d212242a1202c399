"""A thread is reading resolv.conf for getaddrinfo() at the fork: the file is a
FIFO here, as it would be on a file system that does not answer. For root
folders only, as it replaces /etc/resolv.conf.

Shows: the worker waits for the lock of glibc's resolv_conf.c, a bare word
without an owner; each fork hits it. VICTIM=free has no thread and a file."""
import os
import socket
import threading

import held

RESOLV = "/etc/resolv.conf"


def look_up():
    try:
        socket.getaddrinfo("name.invalid", 80)
    except socket.gaierror:
        pass


if os.getpid() != 1:
    raise SystemExit("not process 1: this would replace the machine's " + RESOLV)
if os.path.lexists(RESOLV):
    os.unlink(RESOLV)
if held.MODE == "held":
    os.mkfifo(RESOLV)
    thread = threading.Thread(target=look_up, name="resolver", daemon=True)
    thread.start()
    held.await_call(thread, "openat")
else:
    open(RESOLV, "w").close()


def touch():
    look_up()


app = held.application(touch)
