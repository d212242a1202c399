"""A gunicorn configuration: each worker takes the application's lock when it
has booted, so that a hang needs no request."""


def post_worker_init(worker):
    worker.wsgi.touch()
    worker.log.info("touched")
