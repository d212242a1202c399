"""As lock_module.py, for Celery's prefork pool: each child takes the lock at
its start.

Shows: a child of billiard's hangs in worker_process_init."""
import threading

from celery.signals import worker_process_init

import held
from celery_healthy import app

LOCK = threading.Lock()
held.hold(LOCK)


@worker_process_init.connect
def touch(**_):
    with LOCK:
        pass
