"""The mutex of a queue.Queue, held by a refresher thread at the fork.

Shows: put() waits for a lock that the application never sees."""
import queue

import held

QUEUE = queue.Queue()
held.hold(QUEUE.mutex)


def touch():
    QUEUE.put("work")


app = held.application(touch)
