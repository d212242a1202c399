"""rare_forks.py MODULE [N]: forks N times (1) as a pre-fork server does, by itself:
each child calls the module's touch() once and ends. A child that does not end is
waited for without limit. It writes "ready" before the first fork and
"done forks=N" after the last one."""
import importlib
import os
import random
import sys
import time
import traceback

import rare


def child():
    status = 1
    try:
        rare.after_fork()
        module.touch()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


module = importlib.import_module(sys.argv[1])
forks = int(sys.argv[2]) if len(sys.argv) > 2 else 1
failed = 0
print("ready", flush=True)
for _ in range(forks):
    time.sleep(random.uniform(0, 2 * rare.EVERY))
    pid = os.fork()
    if not pid:
        child()
    failed += os.waitpid(pid, 0)[1] != 0
print("done forks=%d failed=%d" % (forks, failed), flush=True)
os._exit(failed != 0)
