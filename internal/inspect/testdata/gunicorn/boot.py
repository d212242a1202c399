"""gunicorn's configuration: each worker takes the lock as soon as it has started."""


def post_worker_init(worker):
    import importlib
    importlib.import_module(worker.cfg.wsgi_app.split(":")[0] if getattr(worker.cfg, "wsgi_app", None) else worker.app.app_uri.split(":")[0]).touch()
