"""waiting.py KIND: programs of Python that wait, or work, as their authors meant.

KIND: pool       the processes of a multiprocessing.Pool wait for work: one reads
                 a pipe, with a lock in shared memory that all others wait for
      pool-busy  they work
      threads    the threads of a ThreadPoolExecutor wait for work in futexes, and
                 so does the main thread for the handler of SIGTERM
      asyncio    an event loop, with a thread for what blocks

Shows: nothing wrong. It writes "ready"."""
import asyncio
import multiprocessing
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor


def square(n):
    return n * n


def pool():
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(square, range(100))
        print("ready", flush=True)
        while sys.argv[1] == "pool-busy":
            pool.map(square, range(10000))
        signal.pause()


def threads():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with ThreadPoolExecutor(max_workers=4) as executor:
        list(executor.map(square, range(100)))
        print("ready", flush=True)
        stop.wait()
    print("stopped", flush=True)


async def loop():
    await asyncio.get_running_loop().run_in_executor(None, square, 2)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "threads":
        threads()
    elif sys.argv[1] == "asyncio":
        asyncio.run(loop())
    else:
        pool()
