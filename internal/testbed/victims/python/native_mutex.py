"""A lock of a C or C++ library, held by a thread at the fork; VICTIM_LIB is the
library, VICTIM_HOLDER says who holds it: "python" (a Python thread, through
ctypes) or "native" (a thread that the library made itself).

Shows: a pthread mutex, as g_lock of libforkvictim.so or as a std::mutex of
libforkvictim_cpp.so, which names the owner by its thread ID."""
import ctypes
import os
import threading

import held

LIB = ctypes.CDLL(os.environ["VICTIM_LIB"])

if held.MODE == "held":
    if os.environ.get("VICTIM_HOLDER") == "native":
        LIB.victim_start_holder()
    else:
        threading.Thread(target=LIB.victim_hold, name="refresher", daemon=True).start()
    LIB.victim_await_held()


def touch():
    LIB.victim_touch()


app = held.application(touch)
