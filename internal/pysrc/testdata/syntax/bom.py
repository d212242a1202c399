x = "é"; y = x
if x:
    """a
b"""

z = 1
