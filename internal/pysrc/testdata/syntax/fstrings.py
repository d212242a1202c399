name = "x"
a = f"{name!r:>{10}} {name=} {{literal}} {name = !s:^20}"
b = f"{'nested "quotes"'} {f"{f"{1 + 1}"}"}"
c = f"""{
    name  # a comment
    + 'y'
}"""
d = f"{lambda_:=5}" if (lambda_ := 1) else f"{(lambda q: q)(1)}"
e = f"{name!r}" "tail" f'{name:%Y-%m-%d}'
g = rf"\d{name}\{name}" + fr'{name:\n}'
h = f"{name:{'>'}{10}}" f"{ {1: 2}[1] }" f"{(x != 1)}"
i = f"\N{DIGIT ONE}{name}\N{DIGIT TWO}"
j = f"{name,}{*a, b}{yield_ if (yield_ := 1) else 0}"
k = f'{"\n".join(a)}'
