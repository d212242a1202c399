# Run inside gdb: writes the program counters of all threads, one line each.
import gdb

gdb.execute("set backtrace past-main on")
gdb.execute("set backtrace limit unlimited")
for thread in sorted(gdb.selected_inferior().threads(), key=lambda t: t.ptid[1]):
    thread.switch()
    frame = gdb.newest_frame()
    out = []
    while frame is not None:
        # An inlined function has no frame of its own on the stack, nor has one
        # that ended by jumping to the next; gdb reconstructs both.
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            out.append("%x:%s" % (frame.pc(), frame.name() or "?"))
        frame = frame.older()
    print("THREAD %d %s" % (thread.ptid[1] or thread.ptid[0], " ".join(x.replace(" ", "") for x in out)))
