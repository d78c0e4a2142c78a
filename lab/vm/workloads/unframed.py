# SPDX-License-Identifier: GPL-2.0
#
# For walks of call chains in a program without frame pointers: an interpreter as the
# distribution has built it, busy with calls, objects, sorting, generators, exceptions and
# strings. It imports nothing. Some 160 million instructions.

def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

class Shape:
    def __init__(self, n): self.n = n
    def area(self): return self.n * 2
    def __lt__(self, other): return self.n < other.n

def gen(n):
    for i in range(n):
        yield i * i

def thrower(n):
    if n == 0:
        raise ValueError(n)
    thrower(n - 1)

total = 0
for r in range(40):
    total += fib(13)
    total += len(sorted([Shape(i * 7919 % 1000) for i in range(200)]))
    total += len(sorted(range(2000), key=lambda x: (x * 7919) % 1009))
    d = {}
    for i in gen(1000):
        d[str(i % 97)] = d.get(str(i % 97), 0) + i
    total += len(','.join('%d=%s' % (i, d.get(str(i))) for i in range(500)).split(','))
    for i in range(50):
        try:
            thrower(5)
        except ValueError:
            total += 1
    total += sum(map(lambda s: s.area(), (Shape(i) for i in range(500))))
print(total)
