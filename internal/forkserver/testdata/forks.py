"""Forks as told: prints "NAME PID" of each process, and "ready" at the end.

  copies    two children that are copies, one that calls execve
  chain     a child, which has a child itself
  threads   two children forked by a thread that is not the first one
  stranger  takes in the child of another run of itself, laid out in the same
            way in memory (run it where addresses are not random)
"""
import ctypes
import os
import signal
import subprocess
import sys
import threading


def say(name, pid):
    os.write(1, b"%s %d\n" % (name.encode(), pid))


def child():
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


what = sys.argv[1]
if what == "copies":
    say("copy", child())
    say("copy", child())
    say("exec", subprocess.Popen(["/bin/sleep", "1000"]).pid)
    say("exec", subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]).pid)
elif what == "chain":
    r, w = os.pipe()
    if os.fork() == 0:
        say("middle", os.getpid())
        say("leaf", child())
        os.write(w, b"x")
        signal.pause()
    os.read(r, 1)
elif what == "threads":
    def run():
        say("copy", child())
        say("copy", child())
        gate.set()
        threading.Event().wait()
    gate = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    gate.wait()
elif what == "stranger":
    if not os.path.exists("second"):
        open("second", "w").close()
        libc = ctypes.CDLL(None, use_errno=True)
        PR_SET_CHILD_SUBREAPER = 36
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        # The same file, arguments, environment and length of the path, which
        # lies on the stack too: the same addresses.
        slashes = "/" * (len(sys.orig_argv[0]) - len("/procself/exe"))
        os.posix_spawn("/proc" + slashes + "self/exe", sys.orig_argv, os.environ)
        os.wait()
        say("copy", child())
    else:
        say("stranger", child())
        os._exit(0)
say("ready", os.getpid())
while True:
    signal.pause()
