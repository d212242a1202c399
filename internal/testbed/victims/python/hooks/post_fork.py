"""A gunicorn configuration: each worker starts the application's thread itself,
after the fork, and then takes the lock. Use it with VICTIM=post_fork."""
import held


def post_fork(server, worker):
    held.after_fork()


def post_worker_init(worker):
    worker.wsgi.touch()
    worker.log.info("touched")
