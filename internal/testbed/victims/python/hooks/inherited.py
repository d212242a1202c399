"""A gunicorn configuration for inherited.py: each worker waits on what it
inherited, or opens it itself."""


def post_worker_init(worker):
    import inherited
    inherited.after_fork()
