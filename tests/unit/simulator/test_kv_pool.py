import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.kv_pool import KvPool

BLOCK = 512


class Slow:
    """The same memory as a list that is searched: (key, holders, when it was last let go)."""

    def __init__(self, capacity):
        self.capacity, self.private, self.blocks, self.time = capacity, 0, {}, 0

    def match(self, keys):
        found = 0
        while found < len(keys) and keys[found] in self.blocks:
            found += 1
        return found

    def hold(self, keys):
        for key in keys:
            holders, last = self.blocks.get(key, (0, 0))
            self.blocks[key] = (holders + 1, last)
        self.shrink()

    def release(self, keys):
        for key in reversed(keys):
            self.time += 1
            self.blocks[key] = (self.blocks[key][0] - 1, self.time)

    def shrink(self):
        while self.private + BLOCK * len(self.blocks) > self.capacity:
            idle = [(last, key) for key, (holders, last) in self.blocks.items() if not holders]
            del self.blocks[min(idle)[1]]


prompts = st.tuples(st.integers(0, 3), st.integers(0, 6)).map(
    # Prompts of four families, each a prefix of its family's longest.
    lambda drawn: tuple(100 * drawn[0] + i for i in range(drawn[1]))
)


@settings(max_examples=150)
@given(st.integers(1, 14), st.lists(st.tuples(prompts, st.integers(0, 700), st.integers(0, 3))))
def test_against_a_slow_memory(blocks, orders):
    pool, slow, held = KvPool(blocks * BLOCK), Slow(blocks * BLOCK), []
    log, told = pool.follow(), set()
    for keys, private, choice in orders:
        if choice == 0 and held:
            oldest, room = held.pop(0)
            pool.release(oldest, room)
            slow.private -= room
            slow.release(oldest)
        else:
            found = keys[: pool.match(keys)]
            missing = keys[len(found) :]
            if not pool.fits(found, private + BLOCK * len(missing)):
                continue
            pool.take(found, private + BLOCK * len(missing))
            slow.private += private + BLOCK * len(missing)
            slow.hold(found)
            pool.publish(missing)
            slow.private -= BLOCK * len(missing)
            slow.hold(missing)
            held.append((keys, private))
        pool.check()
        assert pool.cached_blocks == len(slow.blocks)
        for family in range(4):
            whole = tuple(100 * family + i for i in range(6))
            assert pool.match(whole) == slow.match(whole)
        for key, came in log:
            (told.add if came else told.remove)(key)
        log.clear()
        assert told == slow.blocks.keys()


def test_the_tail_leaves_before_the_head():
    pool = KvPool(4 * BLOCK)
    pool.take((), 3 * BLOCK)
    pool.publish((1, 2, 3))
    pool.release((1, 2, 3), 0)
    pool.take((), 2 * BLOCK)
    assert (pool.match((1, 2, 3)), pool.cached_blocks, pool.used) == (2, 2, 1024)


def test_shared_blocks_are_counted_once():
    pool = KvPool(4 * BLOCK)
    pool.take((), 2 * BLOCK)
    pool.publish((1, 2))
    pool.take((1, 2), 100)
    assert (pool.used, pool.room) == (2 * BLOCK + 100, 2 * BLOCK - 100)
    pool.release((1, 2), 100)
    assert pool.used == 2 * BLOCK


def test_idle_blocks_count_against_the_room_that_their_waking_takes():
    pool = KvPool(2 * BLOCK)
    pool.take((), 2 * BLOCK)
    pool.publish((1, 2))
    pool.release((1, 2), 0)
    assert pool.fits((1,), BLOCK)
    assert not pool.fits((1,), BLOCK + 1)
    assert not pool.fits((1,), BLOCK, headroom=1)


def test_more_than_there_is_raises():
    pool = KvPool(2 * BLOCK)
    with pytest.raises(ValueError, match="more than there is room"):
        pool.grow(2 * BLOCK + 1)
    with pytest.raises(ValueError, match="at least a block"):
        KvPool(100)
