import random

from simulator.caches import Caches


def test_against_lists():
    chance, caches = random.Random(3), Caches(3, 6)
    slow = [[] for _ in range(3)]
    for _ in range(3000):
        worker, start = chance.randrange(3), chance.randrange(4) * 10
        blocks = list(range(start, start + chance.randrange(5)))
        if chance.random() < 0.02:
            caches.clear(worker)
            slow[worker] = []
        caches.use(worker, blocks)
        kept = [b for b in slow[worker] if b not in blocks] + blocks[::-1]
        slow[worker] = kept[-6:]
        asked = list(range(start, start + 6))
        counts = [caches.match(w, asked) for w in range(3)]
        assert counts == [leading(held, asked) for held in slow]
        told = {w: n for n, mask in caches.levels(asked) for w in range(3) if mask >> w & 1}
        assert [told.get(w, 0) for w in range(3)] == counts


def leading(held, asked):
    return next((n for n, block in enumerate(asked) if block not in held), len(asked))
