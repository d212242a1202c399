"""gunicorn's configuration: the workers wait for their first request."""
