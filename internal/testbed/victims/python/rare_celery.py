"""As rare_lock.py, for Celery's prefork pool on Redis at VICTIM_BROKER, a URL:
each child takes the lock at its start. The task is "nothing"; with
--max-tasks-per-child 1 each one makes the master fork.

Shows: a child of billiard's hangs in worker_process_init."""
import os

import celery
from celery.signals import worker_process_init

import rare
import rare_lock

app = celery.Celery("victim", broker=os.environ["VICTIM_BROKER"])
app.conf.worker_proc_alive_timeout = 3600  # 4 s by default, after which a hung child is killed


@app.task(name="nothing", ignore_result=True)
def nothing():
    pass


@worker_process_init.connect
def touch(**_):
    rare.after_fork()
    rare_lock.touch()
