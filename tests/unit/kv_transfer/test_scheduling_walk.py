"""Any interleaving of prefill legs: each reference that is taken is given back, once."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from kv_transfer.orders import Abort, Begin, Cover, Finish, Orders
from kv_transfer.scheduling import PREFILL
from tests.unit.kv_transfer.engine import BLOCK, Engine, Request, key_of

LEGS, BLOCKS_MAX = 3, 5


@dataclass
class Life:
    """What the scheduler knows of one request."""

    request: Request
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    preempted: bool = False
    ended: bool = False
    held: bool = False


class Walk:
    """A scheduler that does whatever it is told, as far as vLLM's could."""

    def __init__(self, tokens: list[int]) -> None:
        self.engine = Engine()
        requests = [self.engine.arrive(str(i), PREFILL, n) for i, n in enumerate(tokens)]
        self.lives = [Life(request) for request in requests]
        self.covered: dict[str, set[int]] = {r.request_id: set() for r in requests}
        self.said_end: set[str] = set()
        self.begun: set[str] = set()
        self.next_block = 0

    def act(self, index: int, action: str, amount: int) -> None:
        life = self.lives[index]
        if action == "step" and not life.ended:
            self.step(life, amount)
        elif action == "preempt" and life.blocks and not life.ended:
            life.preempted, life.computed = True, 0
        elif action in ("finish", "abort") and not life.ended:
            life.ended = True
            life.held = self.engine.side.finished(life.request, well=action == "finish")
        elif action == "sent" and life.held:
            life.held = False
            self.engine.side.sent(life.request.request_id)
        self.check()

    def step(self, life: Life, amount: int) -> None:
        left = life.request.num_tokens - life.computed
        tokens = min(amount, left) or 1
        request_id, before = life.request.request_id, life.computed
        life.computed += tokens
        had = 0 if life.preempted else len(life.blocks)
        new = [self._block() for _ in range(-(-life.computed // BLOCK) - had)]
        if life.preempted:
            orders = self.engine.resume(request_id, new, before, tokens)
            life.blocks, life.preempted = new, False
        elif not life.blocks:
            orders = self.engine.start(request_id, new, tokens)
            life.blocks = new
        else:
            orders = self.engine.go_on(request_id, new or None, before, tokens)
            life.blocks += new
        self.note(orders)

    def _block(self) -> int:
        # Blocks come round again, so that a leg may get some that it or another still holds.
        self.next_block = (self.next_block + 1) % 64
        return self.next_block

    def note(self, orders: Orders) -> None:
        for order in orders.at_once:
            if isinstance(order, Begin):
                assert order.key not in self.begun, "begun twice"
                self.begun.add(order.key)
        for cover in orders.computed:
            assert cover.key in self.begun, "computed before it began"
            assert isinstance(cover, Cover)
            assert len(cover.blocks) == cover.computed
            self.covered[self._id(cover.key)] |= set(cover.blocks)
        for order in orders.at_once:
            if isinstance(order, Finish | Abort):
                assert order.key not in self.said_end, "ended twice"
                self.said_end.add(order.key)

    def _id(self, key: object) -> str:
        return next(i for i in self.covered if key_of(i) == key)

    def check(self) -> None:
        """Whatever was covered is held until its ticket is released."""
        expected: dict[int, int] = {}
        for life in self.lives:
            if not life.ended or life.held:
                for block in self.covered[life.request.request_id]:
                    expected[block] = expected.get(block, 0) + 1
        assert self.engine.pool.held == expected


ACTIONS = st.tuples(
    st.integers(0, LEGS - 1),
    st.sampled_from(["step", "step", "step", "preempt", "finish", "abort", "sent"]),
    st.integers(1, 9),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, BLOCKS_MAX * BLOCK), min_size=LEGS, max_size=LEGS),
    st.lists(ACTIONS, max_size=40),
)
def test_references_always_come_back(tokens: list[int], actions: list) -> None:
    walk = Walk(tokens)
    for action in actions:
        walk.act(*action)
    for index in range(LEGS):
        walk.act(index, "abort", 0)
        walk.act(index, "sent", 0)
    walk.note(walk.engine.idle())
    assert walk.engine.pool.held == {}
    assert walk.engine.side.open_legs == {}
    assert len(walk.said_end) == LEGS
