# Writes the line tables of all code in the sources of the modules loaded here,
# and what the interpreter itself makes of them.
import os
import sys
import types

try:
    import ctypes
    addr2line = ctypes.pythonapi.PyCode_Addr2Line
    addr2line.argtypes = [ctypes.py_object, ctypes.c_int]
except (ImportError, AttributeError):
    addr2line = None

import threading  # for its code
out = open(int(sys.argv[1]), "w", closefd=False)


def all_code(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from all_code(const)


def lines(code):
    n = len(code.co_code)
    if hasattr(code, "co_lines"):
        table, of = code.co_linetable, {}
        for start, end, line in code.co_lines():
            for at in range(start, end, 2):
                of[at] = -1 if line is None else line
        return table, [of[at] for at in range(0, n, 2)]
    table = code.co_lnotab
    if addr2line is None:
        return None, None
    return table, [addr2line(code, at) for at in range(0, n, 2)]


made = ["def f(x):"]
for i in range(300):
    made.append("\n" * (i % 7 * 40) + "    x = (x," + "\n" * (i % 5 * 70) + " x[%d])" % i)
sources = [("made", "\n".join(made))]
for module in list(sys.modules.values()):
    name = getattr(module, "__file__", None) or ""
    if name.endswith(".py") and os.path.exists(name):
        with open(name, encoding="utf-8") as f:
            sources.append((name, f.read()))
for name, source in sources:
    for code in all_code(compile(source, name, "exec")):
        table, line = lines(code)
        if table is not None:
            print(table.hex() or "-", code.co_firstlineno, ",".join(map(str, line)), file=out)
print("end", file=out, flush=True)
os.read(int(sys.argv[2]), 1)
