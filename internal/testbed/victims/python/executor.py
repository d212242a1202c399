"""A ThreadPoolExecutor made before the fork and used after it.

Shows: the pool still counts its idle thread, which the worker does not have, so
submit() starts none and result() waits for ever. No lock is held at all.
VICTIM=free shuts the pool down before the fork and makes a new one when needed."""
from concurrent.futures import ThreadPoolExecutor

import held

POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pool")
POOL.submit(int).result()
if held.MODE == "held":
    # The thread counts itself as idle after it has given its result away.
    while POOL._idle_semaphore._value == 0:
        pass
else:
    POOL.shutdown()
    POOL = None


def touch():
    pool = POOL or ThreadPoolExecutor(max_workers=1)
    pool.submit(int).result()


app = held.application(touch)
