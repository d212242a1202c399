"""A thread uses a connection pool of psycopg2's now and then, two connections at
once; each worker takes one connection of the same pool. VICTIM_DSN is how to reach PostgreSQL.

Shows: ThreadedConnectionPool connects and hangs up while it holds its lock. A
worker that finds the lock free would talk on the connection of the master: that is
another fault, and so the worker does not ask anything on it.
VICTIM_KEPT is how many connections the pool keeps: with 0 none is shared, and what
is left is the lock.
VICTIM=post_fork makes a new pool in each worker: the healthy twin that
psycopg's documentation asks for; handlers alone would leave the connection
shared."""
import os

import psycopg2.pool

import held
import rare


def ask(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()


def refresh():
    one, two = POOL.getconn(), POOL.getconn()
    ask(one)
    ask(two)
    POOL.putconn(two)
    POOL.putconn(one)


def touch():
    POOL.putconn(POOL.getconn())


def setup():
    global POOL
    POOL = psycopg2.pool.ThreadedConnectionPool(int(os.environ.get("VICTIM_KEPT", "1")), 4, os.environ["VICTIM_DSN"])
    rare.start(refresh)


rare.setup(setup)
app = held.application(touch)
