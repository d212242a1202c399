"""What the rare victims share: a thread that takes a lock now and then, for as
long as real code does, so that a fork meets it only seldom.

start(work) starts the thread "refresher", which calls work() every VICTIM_EVERY
seconds (0.01), a little more or less. VICTIM says otherwise:
  rare       (or unset) that alone
  handlers   fork handlers take the lock and give it back: a healthy twin
  post_fork  no thread before the fork: hooks/rare.py (or rare_forks.py) makes what
             the module has anew in each worker: another twin, which has its thread
             where the first has it
What has no lock of its own to take has no handlers."""
import os
import random
import threading
import time

MODE = os.environ.get("VICTIM", "rare")
EVERY = float(os.environ.get("VICTIM_EVERY", "0.01"))
LATER = []


def refresh(work):
    while True:
        work()
        time.sleep(EVERY * random.uniform(0.5, 1.5))


def start(work):
    threading.Thread(target=refresh, args=(work,), name="refresher", daemon=True).start()


def setup(make):
    """Calls make, which starts what the module needs: now, or in each worker."""
    if MODE == "post_fork":
        LATER.append(make)
    else:
        make()


def protect(take, give):
    """Registers the handlers, where VICTIM wants them."""
    if MODE == "handlers":
        os.register_at_fork(before=take, after_in_parent=give, after_in_child=give)


def after_fork():
    """What hooks/rare.py calls in each worker, before anything else."""
    while LATER:
        LATER.pop()()
