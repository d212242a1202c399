@(yield_ := decorate)
@a.b[0](1).c
async def f[T, *Ts, **P](a, /, b: int = 1, *args: *Ts, c, d=2, **kw: P.kwargs) -> tuple[*Ts]:
    async with a as b, c: pass
    async for x, *y in z: await x ** -y
    else: pass
    return [i async for i in x if await i if not i]
class C[T = int](Base, *bases, metaclass=M, **kw): x: int; y: str = "a"; (z): int = 1
def g(*, a): lambda: (yield); lambda *a, k=1, **b: a; lambda a, /: a
def h(a, b=lambda: 0): return *a, b
with (open("a") as a, open("b") as b,): pass
with (a, b): pass
with (a, b) as c: pass
with (yield_): pass
with (a): pass
with (a), (b): pass
with (x for x in y) as z: pass
with (a).b as c[0], d as (e, f): pass
with (a := b): pass
x[1:2, ::3, *y, a:=1] = x[*y] = x[()] = {**a, 'b': 1, **c}
print(*a, *d, c=1, **b)
f(x for x in y)
f(a, (x for x in y))
del (a), b[0], (c, [d])
global_, *rest = not a == b is not c not in d, a if b else c if d else lambda: e
if 1:
	tab = 1
        # odd comment
elif 2: pass
else:
    x = 1 if 2else 3
for x, in y,: break
while x: continue
assert (a, b), "c"
raise A from B
a = b = yield_
a @= b; a //= b; a **= b; a >>= 0x_ff + 0b1_0 + 0o17 + 1_0.0e-1_0j
from . import (a as b, c,)
from ...x.y import *
from .... import z
import a.b as c, d
"a" "b"; b'\x00\377' rb'\x'; '\u00e9\U0001F600\N{BULLET}'
été = ﬁn = 1
try: pass
except: pass
else: pass
finally: pass
nonlocal_ = -1 ** 2, ~-+x, (not x), *a, *b | c
x = a \
    + b
1 << n - 1 >> 2 + 3 * 4 | a & b ^ c | d == e < f or not g and h or i if j else k
-a ** -b * c // d % e @ f - g + h << i & j ^ k | l
a ^ b & c | d << e & f ^ g
not a in b is c and d or e and (f or g)
lambda: a if b else c, d
await_ = a.b(c)[d].e ** f.g() - -h
