"""A gunicorn configuration for the rare victims: each worker makes what
VICTIM=post_fork left for it, and then does its first work at once, so that a hang
needs no request."""
import rare


def post_fork(server, worker):
    rare.after_fork()


def post_worker_init(worker):
    worker.wsgi.touch()
    worker.log.info("touched")
