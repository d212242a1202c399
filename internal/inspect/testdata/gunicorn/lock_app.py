"""A refresher thread holds a module's lock while gunicorn forks its workers."""
import threading
import time

refresh_lock = threading.Lock()
held = threading.Event()


def refresher():
    with refresh_lock:
        held.set()
        while True:
            time.sleep(3600)


threading.Thread(target=refresher, name="refresher", daemon=True).start()
held.wait()


def touch():
    with refresh_lock:
        return b"ok"


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [touch()]
