"""Writes what CPython's ast sees in each file that is named on standard input:
a line "F name" for a file, then a line per node: kind, start, end and name."""
import ast
import sys
import warnings

warnings.simplefilter("ignore")
sys.setrecursionlimit(20000)
NEW = sys.version_info >= (3, 12)
KEPT = {"Import": "", "ImportFrom": ""}


def text(value):
    if isinstance(value, str):
        return "s" + value.encode("utf-8", "surrogatepass").hex()
    if isinstance(value, bytes):
        return "b" + value.hex()
    if value is None or value is True or value is False:
        return str(value)
    return "..." if value is ... else type(value).__name__


def name(n):
    kind = type(n).__name__
    if kind == "Name":
        return n.id
    if kind == "Attribute":
        return n.attr
    if kind in ("FunctionDef", "AsyncFunctionDef", "ClassDef", "TypeVar", "TypeVarTuple", "ParamSpec"):
        return n.name
    if kind in ("arg", "keyword"):
        return n.arg or "**"
    if kind == "Import":
        return ",".join(a.name + ":" + (a.asname or "") for a in n.names)
    if kind == "ImportFrom":
        return "." * n.level + (n.module or "") + ":" + ",".join(a.name + ":" + (a.asname or "") for a in n.names)
    if kind in ("Global", "Nonlocal"):
        return ",".join(n.names)
    if kind == "Constant":
        return text(n.value)
    if kind in ("MatchAs", "MatchStar", "ExceptHandler"):
        return n.name or ""
    if kind == "MatchMapping":
        return n.rest or ""
    if kind == "MatchClass":
        return ",".join(n.kwd_attrs)
    if kind in ("BinOp", "UnaryOp", "AugAssign", "BoolOp"):
        return type(n.op).__name__
    if kind == "Compare":
        return ",".join(type(o).__name__ for o in n.ops)
    return ""


def children(n):
    if isinstance(n, (ast.JoinedStr,)) or type(n).__name__ == "TemplateStr":
        if NEW:
            for v in n.values:
                if not isinstance(v, ast.Constant):
                    yield v
        return
    if isinstance(n, ast.FormattedValue) or type(n).__name__ == "Interpolation":
        yield n.value
        if n.format_spec is not None:
            for v in n.format_spec.values:
                if not isinstance(v, ast.Constant):
                    yield v
        return
    yield from ast.iter_child_nodes(n)


def dump(tree, out):
    todo = [tree]
    while todo:
        n = todo.pop()
        if hasattr(n, "lineno") and not isinstance(n, ast.alias):
            out.append("%d:%d-%d:%d %s %s" % (n.lineno, n.col_offset, n.end_lineno, n.end_col_offset, type(n).__name__, name(n)))
        todo.extend(children(n))


for path in sys.stdin.read().splitlines():
    with open(path, "rb") as f:
        source = f.read()
    print("F", path)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as e:
        print("E", str(e).replace("\n", " "))
        continue
    out = []
    dump(tree, out)
    print("\n".join(out))
print("END", sys.version.split()[0])
