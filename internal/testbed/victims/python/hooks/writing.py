"""A gunicorn configuration for errorlog.py: forks only while its thread is
inside write(), and so holds the lock of the error log's buffer. The error log
must be a FIFO that nobody reads."""
import errorlog


def pre_fork(server, worker):
    errorlog.await_writing(server.cfg.errorlog)
