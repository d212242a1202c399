"""Forks in a thread that holds the GIL by a thread state of another's, with the
help of libgilvictim.c, which says what that shows. VICTIM_LIB is that library."""
import ctypes
import os
import threading

lend = ctypes.CDLL(os.environ["VICTIM_LIB"]).lend
lend.argtypes = [ctypes.c_void_p]
api = ctypes.pythonapi
api.PyInterpreterState_Get.restype = api.PyThreadState_New.restype = ctypes.c_void_p
api.PyThreadState_New.argtypes = [ctypes.c_void_p]
state = api.PyThreadState_New(api.PyInterpreterState_Get())
threading.Thread(target=lend, args=(state,)).start()
threading.Event().wait()
