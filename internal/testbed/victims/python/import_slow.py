"""What import_lock.py imports: it takes for ever, unless IMPORT_SLOW=no."""
import os
import sys
import time

if os.environ.get("IMPORT_SLOW") != "no":
    sys.modules["import_lock"].READY.set()
    while True:
        time.sleep(3600)
