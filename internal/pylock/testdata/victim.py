# Usage: victim.py SCENARIO hold|free. Prints the PID of a forked child that waits
# for a lock which another thread held at the fork (hold), or that waits for its
# standard input (free), then the ident of the thread that held it. Both
# processes stay until they are killed.
import os, queue, sys, threading, types

scenario, hold = sys.argv[1], sys.argv[2] == "hold"

SOURCE = '''
import logging, os, queue, sys, threading

class Cache:
    _lock = threading.Lock()
    def __init__(self):
        self.size = 0
        self.guard = threading.Lock()
        self.entries = {}

class Service:
    def __init__(self):
        self.pool = Cache()

refresh_lock = threading.Lock()
state_lock = threading.RLock()
jobs = queue.Queue()
inbox = queue.SimpleQueue()
cache = Cache()
services = {"db": Service(), "mail": Service()}
ready = threading.Event()
out = None

def counter():
    hidden = threading.Lock()
    def count():
        with hidden:
            return 1
    return count

count = counter()

def take_with(lock):
    with lock:
        return 1

def take_bare(lock):
    lock.acquire()

def put_job():
    jobs.put(1)

def update():
    with cache.guard:
        cache.size += 1

def local_only(private):
    private.acquire()
'''
app = types.ModuleType("app")
app.__file__ = "/srv/app.py"
sys.modules["app"] = app
exec(compile(SOURCE, "/srv/app.py", "exec"), app.__dict__)

held = threading.Event()
forever, _keep = os.pipe()


def rest():
    os.read(forever, 1)


def with_lock(lock):
    def holder():
        with lock:
            held.set()
            rest()
    return holder


def full_pipe(write):
    """A file whose pipe nobody reads; a thread stays in its write."""
    def holder():
        held.set()
        write(b"x" * (1 << 20))
    return holder


class SlowLoader:
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        held.set()
        rest()


class SlowFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "slow":
            return None
        import importlib.machinery
        return importlib.machinery.ModuleSpec(name, SlowLoader())


def import_slow():
    import slow


def setup():
    """Returns what the holder does and what the child does."""
    if scenario == "lock":
        return with_lock(app.refresh_lock), lambda: app.take_with(app.refresh_lock)
    if scenario == "bare":
        return with_lock(app.refresh_lock), lambda: app.take_bare(app.refresh_lock)
    if scenario == "rlock":
        return with_lock(app.state_lock), lambda: app.take_with(app.state_lock)
    if scenario == "queue":
        return with_lock(app.jobs.mutex), app.put_job
    if scenario == "class":
        return with_lock(app.Cache._lock), lambda: app.take_with(app.Cache._lock)
    if scenario == "instance":
        return with_lock(app.cache.guard), app.update
    if scenario == "nested":
        return with_lock(app.services["db"].pool.guard), lambda: app.take_with(app.services["db"].pool.guard)
    if scenario == "closure":
        return with_lock(app.count.__closure__[0].cell_contents), app.count
    if scenario == "local":
        private = threading.Lock()
        return with_lock(private), lambda: app.local_only(private)
    if scenario == "handler":
        import logging
        log = logging.getLogger("app.errors")
        handler = logging.StreamHandler(open(os.devnull, "w"))
        log.addHandler(handler)
        return with_lock(handler.lock), lambda: log.error("hello")
    if scenario == "buffered":
        app.out = open(os.pipe()[1], "w")
        return full_pipe(app.out.buffer.write), lambda: app.out.write("y" * 100000)
    if scenario == "stderr":
        os.dup2(os.pipe()[1], 2)
        # 3.8 does not flush a line by itself where stderr is no terminal.
        return full_pipe(sys.stderr.buffer.write), lambda: (sys.stderr.write("hello\n"), sys.stderr.flush())
    if scenario == "log-stream":
        import logging
        stream = open(os.pipe()[1], "w")
        log = logging.getLogger("app.errors")
        log.addHandler(logging.StreamHandler(stream))
        stream = None
        return full_pipe(log.handlers[0].stream.buffer.write), lambda: log.error("hello")
    if scenario == "import":
        sys.meta_path.insert(0, SlowFinder)
        return import_slow, import_slow
    # What follows waits for events. Nobody holds anything.
    if scenario == "event":
        return None, app.ready.wait
    if scenario == "get":
        return None, app.jobs.get
    if scenario == "simplequeue":
        return None, app.inbox.get
    if scenario == "condition":
        def wait():
            c = threading.Condition(app.state_lock)
            with c:
                c.wait()
        return None, wait
    if scenario == "semaphore":
        return None, threading.Semaphore(0).acquire
    if scenario == "join":
        def join():
            t = threading.Thread(target=rest, daemon=True)
            t.start()
            t.join()
        return None, join
    if scenario == "future":
        import concurrent.futures
        return None, concurrent.futures.Future().result
    raise SystemExit("no scenario " + scenario)


def main():
    holder, waiter = setup()
    ident = 0
    if hold and holder is not None:
        t = threading.Thread(target=holder, daemon=True)
        t.start()
        held.wait()
        ident = t.ident
        if scenario in ("buffered", "stderr", "log-stream"):
            # It holds the lock once it sleeps in the write.
            tid = getattr(t, "native_id")
            proc = 3  # an open /proc: a root folder has none of its own
            while True:
                call = os.open("self/task/%d/syscall" % tid, os.O_RDONLY, dir_fd=proc)
                at = os.read(call, 200)
                os.close(call)
                if at.split()[0] in (b"1", b"64"):
                    break

    if scenario == "handler":
        # os.fork would make the locks of logging anew; C code that forks does not.
        try:
            import ctypes
        except ImportError:
            print("skip no ctypes", flush=True)
            rest()
        pid = ctypes.PyDLL(None).fork()
    else:
        import warnings
        warnings.simplefilter("ignore")
        pid = os.fork()
    if pid == 0:
        os.close(1)
        if hold:
            waiter()
        else:
            rest()
        os._exit(9)
    os.write(1, b"%d %d\n" % (pid, ident))
    rest()


main()
