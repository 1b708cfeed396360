"""Both ends against each other: any interleaving keeps the rules, and everything ends."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kv_transfer.ticket import words as w
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.ticket.model import World
from tests.unit.kv_transfer.ticket.walk import walk

PICK, FEW = st.integers(0, 99), st.integers(1, 4)


PICKED = ("land", "finish", "done", "verify", "end", "deliver")
PROGRESS = ("complete", "report", "allocate", "reap", "obey", *PICKED)


class Pair(RuleBasedStateMachine):
    """Hypothesis chooses the moves, and shrinks those that break a rule."""

    world: World

    @initialize(checking=st.sampled_from(Checking))
    def begin(self, checking):
        self.world = World(checking)

    @rule(ticket=st.integers(0, 2), total=FEW, held=st.integers(0, 4))
    def submit(self, ticket, total, held):
        self.world.submit(ticket, total, held)

    @rule(pick=PICK, count=FEW)
    def schedule(self, pick, count):
        self.world.schedule(pick, count)

    @rule(pick=PICK, corrupt=st.booleans())
    def land(self, pick, corrupt):
        self.world.land(pick, corrupt and self.world.checking is Checking.FULL)

    @rule(pick=PICK, keep=st.booleans())
    def deliver(self, pick, keep):
        self.world.deliver(pick, keep)

    @rule(names=st.lists(st.sampled_from(PROGRESS), min_size=2, max_size=8), pick=PICK)
    def proceed(self, names, pick):
        for name in names:
            move = getattr(self.world, name)
            move(pick) if name in PICKED else move()

    @rule(name=st.sampled_from(["preempt", "drop", "fail", "abort", "preempt_decode"]), pick=PICK)
    def disturb(self, name, pick):
        getattr(self.world, name)(pick)

    @rule(pick=PICK)
    def lose(self, pick):
        self.world.lose(pick)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 10.0]))
    def wait(self, seconds):
        self.world.wait(seconds)

    @rule(name=st.sampled_from(["kill_prefill", "kill_decode"]))
    def kill(self, name):
        getattr(self.world, name)()

    @rule(ticket=st.integers(0, 2), total=FEW)
    def get_going(self, ticket, total):
        """Chance alone rarely gets this far: a request whose first writes are under way."""
        self.world.submit(ticket, total, 0)
        self.world.allocate()
        self.world.deliver(-1)
        self.world.schedule(-1, total)
        self.world.complete()
        self.world.report()

    @rule()
    def settle(self):
        self.world.settle()

    @invariant()
    def keeps_the_rules(self):
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self):
        if hasattr(self, "world"):
            self.world.drain()


Pair.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPair = Pair.TestCase


@pytest.mark.parametrize("checking", Checking)
def test_long_walks_keep_the_rules_and_see_everything(checking):
    seen = Counter()
    for seed in range(70):
        seen += walk(seed, checking=checking).seen
    commands = {w.Send, w.Post, w.Pin, w.Unpin, w.Release, w.Received, w.LoadFailed, w.Freed}
    commands |= {w.AskKill, w.Quarantine, w.Unquarantine}
    few = {kind.__name__ for kind in commands if not seen[kind]}
    assert not few, f"the walks never saw {few}"
    assert seen[w.Received] > 60


def test_without_faults_every_request_is_received():
    world = World()
    for ticket in range(12):
        world.submit(ticket, total=1 + ticket % 4, held=0)
        world.settle()
    world.drain()
    assert world.seen[w.Received] == 12
    assert not world.seen[w.LoadFailed]
    assert not world.seen[w.AskKill]


def test_full_pools_do_not_lock_each_other():
    """Prefill holds finished prompts that have no target; decode waits for prompts without room."""
    world = World()
    for ticket in range(3):
        world.submit(ticket, total=3, held=0)
    world.allocate()
    world.allocate()
    for job in (2, 1):  # the last two in the queue of decode are computed first
        world.schedule(job, 3)
        world.complete()
        world.report()
    world.finish(1)
    world.drop(0, held_only=True)
    world.settle()
    world.drain()
    assert world.seen[w.Received] >= 1
    assert not world.seen[w.AskKill]


def test_an_abort_with_both_ends_alive_needs_no_time():
    world = World()
    world.submit(0, total=4, held=0)
    world.allocate()
    world.deliver(0)
    world.schedule(0, 4)
    world.complete()
    world.report()
    world.abort(0)
    world.drop(0)
    held = world.decode.pool.held()
    world.settle()
    assert (held, world.decode.pool.held(), world.now_s) == (4, 0, 0.0)
    assert world.seen[w.Freed] == 1


def test_a_stopped_peer_is_killed_after_the_deadline_and_quarantined_until_then():
    world = World()
    world.submit(0, total=2, held=0)
    world.allocate()
    world.net.clear()  # nothing reaches prefill, nothing comes back
    for _ in range(24):
        world.wait(1.0)
        world.net.clear()
    assert world.quarantined
    assert world.decode.pool.held() == 2
    world.obey()
    world.reap()
    assert not world.quarantined
    assert world.decode.pool.held() == 0
