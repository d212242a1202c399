"""A WSGI server started from within a program, as Airflow does: nothing in the
command line says which one."""
import sys

import gunicorn.app.base


class Server(gunicorn.app.base.BaseApplication):
    def load_config(self):
        self.cfg.set("bind", sys.argv[1])
        self.cfg.set("workers", 2)

    def load(self):
        return lambda environ, start: [b"ok"]


Server().run()
