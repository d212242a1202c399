"""The twin of lock_app: the thread does not hold the lock at the fork."""
import threading
import time

refresh_lock = threading.Lock()


def refresher():
    while True:
        time.sleep(3600)


threading.Thread(target=refresher, name="refresher", daemon=True).start()


def touch():
    with refresh_lock:
        return b"ok"


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [touch()]
