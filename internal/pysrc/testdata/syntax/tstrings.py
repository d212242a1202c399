who = "x"
a = t"hello {who!r:>{10}}"
b = rt"\{who}" t'{who=}'
c = t"""{
    who
}"""
try:
    pass
except ValueError, TypeError:
    pass
try:
    pass
except* ValueError, TypeError:
    pass
