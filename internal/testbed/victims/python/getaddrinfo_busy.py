"""Threads look up addresses all the time, with AI_ADDRCONFIG, while the master
forks.

Shows: the worker waits for glibc's private lock in __check_pf, a bare word
without an owner. A matter of chance, with odds near 1. VICTIM=free has no
threads."""
import socket
import threading
import time

import held


def look_up():
    return socket.getaddrinfo("127.0.0.1", 80, flags=socket.AI_ADDRCONFIG | socket.AI_NUMERICHOST)


def resolve():
    while True:
        look_up()


if held.MODE == "held":
    for n in range(6):
        threading.Thread(target=resolve, name="resolver-%d" % n, daemon=True).start()
    time.sleep(0.05)  # they run, all or nearly all; how far does not matter


def touch():
    look_up()


app = held.application(touch)
