"""A gunicorn configuration for tz_slow.py: starts its thread just before the
first fork. A worker hangs at its first line of log, which has the time in it."""
import tz_slow


def pre_fork(server, worker):
    tz_slow.read_zone()


def post_worker_init(worker):
    worker.wsgi.touch()
