"""A gunicorn configuration for errorlog.py: forks only while its thread is
inside write(), and so holds the lock of the error log's buffer. The error log
must be a FIFO that nobody reads."""
import errorlog as victim  # under its own name it would be a setting


def pre_fork(server, worker):
    victim.await_writing()
