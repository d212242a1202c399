"""A thread calls a gRPC service now and then; each worker calls it on a channel
that it makes itself.

Shows: gRPC's core has threads and locks of its own, and looks after them at a
fork only where GRPC_ENABLE_FORK_SUPPORT asks it to, and not while a call runs.
VICTIM=post_fork has no channel before the fork; there are no handlers. The service is
a program of its own, rare_grpc_server.py."""
import os
import subprocess
import sys

import grpc

import held
import rare

SERVER = subprocess.Popen([sys.executable, os.path.join(os.path.dirname(__file__), "rare_grpc_server.py")],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
ADDRESS = SERVER.stdout.readline().decode().strip()


def caller():
    channel = grpc.insecure_channel(ADDRESS)
    call = channel.unary_unary("/victim/echo")
    return lambda: call(b"ping")


def setup():
    global CALL
    CALL = caller()
    rare.start(CALL)


def touch():
    caller()()


rare.setup(setup)
app = held.application(touch)
