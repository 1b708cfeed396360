"""Both ends against each other: any interleaving keeps the rules, and everything ends."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kv_transfer.ticket import words as w
from kv_transfer.ticket.messages import Alive, Register, Withdraw
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.ticket.model import PATIENCE_S, TURN_S, World
from tests.unit.kv_transfer.ticket.moves import HOLD_S, PATIENCE
from tests.unit.kv_transfer.ticket.walk import KINDS, walk

PICK, FEW = st.integers(0, 99), st.integers(1, 4)


PICKED = ("land", "finish", "done", "verify", "end", "deliver")
PROGRESS = ("layer", "complete", "report", "allocate", "reap", "obey", *PICKED)
FAULTS = ("preempt", "drop", "fail", "doubt", "abort", "preempt_decode", "lose")


class Pair(RuleBasedStateMachine):
    """Hypothesis chooses the moves, and shrinks those that break a rule."""

    world: World

    @initialize(checking=st.sampled_from(Checking), layers=st.integers(1, 3))
    def begin(self, checking, layers):
        self.world = World(checking, layers)

    @rule(ticket=st.integers(0, 2), total=FEW, held=st.integers(0, 4))
    def submit(self, ticket, total, held):
        self.world.submit(ticket, total, held)

    @rule(ticket=st.integers(0, 2), total=FEW, gone=st.sampled_from(["prefill", "decode"]))
    def submit_one_leg(self, ticket, total, gone):
        self.world.submit(ticket, total, 0, gone)

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

    @rule(name=st.sampled_from(FAULTS), pick=PICK)
    def disturb(self, name, pick):
        getattr(self.world, name)(pick)

    @rule(kinds=st.sets(st.sampled_from(KINDS), max_size=2))
    def outage(self, kinds):
        self.world.lost = kinds

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 10.0]))
    def wait(self, seconds):
        self.world.wait(seconds)

    @rule(name=st.sampled_from(["kill_prefill", "kill_decode"]))
    def kill(self, name):
        getattr(self.world, name)()

    @rule(ticket=st.integers(0, 2), total=FEW, layers=st.integers(0, 3))
    def get_going(self, ticket, total, layers):
        """Chance alone rarely gets this far: a request whose first writes are under way."""
        self.world.submit(ticket, total, 0)
        self.world.schedule(-1, total)
        self.world.arrive()
        self.world.allocate()
        self.world.arrive()
        for _ in range(layers):
            self.world.layer()
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
            self.world.lost = set()
            self.world.drain()


Pair.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestPair = Pair.TestCase


@pytest.mark.parametrize("checking", Checking)
def test_long_walks_keep_the_rules_and_see_everything(checking):
    seen = Counter()
    for seed in range(40):
        seen += walk(seed, checking=checking).seen
    commands = {w.Send, w.Post, w.Pin, w.Unpin, w.Release, w.Received, w.LoadFailed, w.Freed}
    commands |= {w.Admit, w.AskKill, w.Quarantine, w.Unquarantine, *KINDS}
    few = {kind.__name__ for kind in commands if not seen[kind]}
    assert not few, f"the walks never saw {few}"
    assert seen[w.Received] > 40
    assert seen["rectangle"] > 40


@pytest.mark.parametrize("layers", [1, 3])
def test_without_faults_every_request_is_received(layers):
    world = World(layers=layers)
    for ticket in range(12):
        world.submit(ticket, total=1 + ticket % 4, held=0)
        world.settle()
    world.drain()
    assert world.seen[w.Received] == world.seen[w.Admit] == 12
    assert not world.seen[w.LoadFailed]
    assert not world.seen[w.AskKill]
    assert bool(world.seen["rectangle"]) is (layers > 1)


# --- credits --------------------------------------------------------------------------------------


def test_full_pools_do_not_lock_each_other():
    """Far more is queued than both pools hold, and prefill begins with what is last in decode's
    queue. Decode spends blocks only on what has begun, so all is received as if alone."""
    world = World()
    for ticket in range(8):
        world.submit(ticket, total=3, held=0)
    world.arrive()
    for _ in range(8):
        world.allocate()
    assert world.decode.pool.held() == 0
    world.schedule(7, 3)
    world.schedule(6, 3)
    world.arrive()
    for _ in range(8):
        world.allocate()
    assert {key.ticket_id for key in world.decode.blocks} == {"t6", "t7"}
    world.drain()
    assert world.seen[w.Received] == 8
    assert not world.seen[w.LoadFailed]
    assert not world.seen[w.AskKill]
    assert world.now_s < HOLD_S


def test_prompts_that_wait_for_a_target_are_held_for_a_while():
    """Decode has no room, and prefill none left to compute what decode waits for."""
    world = World()
    world.submit(0, total=4, held=0)
    world.begin(2)  # the rest of it comes too late
    world.submit(1, total=4, held=0)
    world.schedule(1, 4)
    world.complete(), world.report()
    world.complete(), world.report()
    world.finish(0)
    assert world.prefill.pool.held() == world.decode.pool.held() + 2 == 6
    while len(world.prefill.jobs) == 2:
        world.arrive()
        world.allocate()
        world.schedule(0, 2)
        world.wait(TURN_S)
    assert world.now_s == HOLD_S
    world.drain()
    assert (world.seen[w.Received], world.seen[w.LoadFailed]) == (1, 1)
    assert not world.seen[w.AskKill]


def test_signs_of_life_keep_a_queue_waiting_and_cost_no_blocks():
    world = World()
    world.submit(0, total=2, held=0)
    while world.now_s < 3 * PATIENCE.silence_s:
        world.arrive()
        world.allocate()
        world.wait(TURN_S)
    assert world.seen[Alive] > 3 * PATIENCE.silence_s
    assert not world.seen[w.Admit]
    world.drain()
    assert world.seen[w.Received] == 1


def test_a_sign_of_life_that_is_lost_comes_again():
    world = World()
    world.submit(0, total=2, held=0)
    world.schedule(0, 2)
    world.net.clear()
    world.wait(1.0)
    world.arrive()
    world.allocate()
    assert world.seen[Register] == 1


def test_a_leg_that_never_comes_is_given_up_without_blocks_in_danger():
    world = World()
    world.submit(0, total=2, held=0, gone="prefill")
    world.live(PATIENCE.silence_s + 2 * TURN_S)
    assert world.over
    assert world.seen[w.LoadFailed] == world.seen[Withdraw] == 1
    assert not world.seen[Register]


# --- bounded time ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lost",
    [*(pytest.param({kind}, id=kind.__name__) for kind in KINDS), pytest.param(KINDS, id="all")],
)
@pytest.mark.parametrize("seconds", [4.0, 40.0])
def test_every_request_ends_although_messages_are_lost(lost, seconds):
    """While they get lost, and soon after they come through again."""
    world = World(layers=2)
    for ticket in range(10):
        world.submit(ticket, total=1 + ticket % 4, held=ticket % 3)
    world.lost = set(lost)
    world.live(seconds)
    world.lost = set()
    for ticket in range(10, 14):
        world.submit(ticket, total=2, held=0)
    again_s = world.now_s
    world.drain()
    assert world.now_s <= again_s + PATIENCE_S
    failed = world.seen[w.LoadFailed]
    assert world.seen[w.Received] + failed == world.seen[w.Admit]
    assert world.seen[w.Received] >= 1


def test_an_abort_with_both_ends_alive_needs_no_time():
    world = World()
    world.submit(0, total=4, held=0)
    world.begin(4)
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
    world.begin(2)
    world.lost = set(KINDS)  # nothing reaches prefill, nothing comes back
    for _ in range(24):
        world.wait(1.0)
    assert world.quarantined
    assert world.decode.pool.held() == 2
    world.obey()
    world.reap()
    assert not world.quarantined
    assert world.decode.pool.held() == 0


@pytest.mark.parametrize("rest", ["lands", "never lands"])
def test_a_doubted_write_keeps_the_blocks_of_both_ends_until_prefill_is_dead(rest):
    world = World(Checking.OFF, layers=2)
    world.submit(0, total=3, held=0)
    world.begin(3)
    world.complete(), world.report(), world.finish(0)
    world.land(0)
    world.doubt(0)
    while not world.kills:
        world.arrive()
        assert (world.prefill.pool.held(), world.decode.pool.held()) == (3, 3)
        world.wait(TURN_S)
    for _ in range(5 if rest == "lands" else 0):
        world.land(0)
    world.net.clear()
    world.obey()
    assert world.decode.pool.held() == 3
    world.reap()
    assert world.decode.pool.held() == 0
    assert world.seen[w.LoadFailed] == 1


def test_the_death_of_decode_ends_a_doubted_write():
    world = World()
    world.submit(0, total=3, held=0)
    world.begin(3)
    world.complete(), world.report(), world.finish(0)
    world.land(0)
    world.doubt(0)
    assert world.prefill.pool.held() == 3
    world.kill_decode()
    assert world.prefill.pool.held() == 0
    assert world.over
