match = 1
match[0:1], match.x = 1, 2 if match else 3
print(match (1))
match(x)
match: int = 5
type = type(1)
type X = int
type Y[T: (int, str) = int, *Ts = *tuple[int], **P = [int]] = dict[T, P]
case = _ = 1
match match:
    case 1 | -2.5 | 3 - 4j | "a" "b" | None | True:
        pass
    case [a, *_, (b, c), *rest] if a > 1:
        pass
    case {"k": v, Point.X: 1, -1: _, **others}:
        pass
    case Point(x=0, y=[1, _]) | pkg.Point(1, 2, z=3) as p:
        pass
    case (a), (b,), (), [], [x]:
        pass
    case *first, last:
        pass
    case str() | int():
        pass
    case a.b.c:
        pass
    case case:
        pass
match (1, *x), y:
    case _: pass
match -x:
    case _:
        pass
match [x for x in y]:
    case _:
        pass
match x := 1:
    case _:
        pass
