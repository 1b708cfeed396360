"""Each rule is needed: without it the model breaks."""

import pytest

from kv_transfer.ticket import source, target
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.ticket.model import World
from tests.unit.kv_transfer.ticket.parts import BrokenRuleError
from tests.unit.kv_transfer.ticket.walk import walk

SEEDS = range(120)


def walk_all() -> None:
    for seed in SEEDS:
        walk(seed)


def without(monkeypatch, end, rule, instead):
    assert hasattr(end, rule)
    monkeypatch.setattr(end, rule, instead)


FENCE = (target, "is_fenced", lambda state: True)
TARGET_EPOCH = (target, "is_mine", lambda state, key: True)
SOURCE_EPOCH = (source, "is_mine", lambda state, key: True)
COMPLETION = (source, "is_drained", lambda state: True)
PIN = (source, "to_pin", lambda post: ())
COMPUTED = (source, "computed_end", lambda state: len(state.blocks))
PREEMPTION = (source, "is_current", lambda state, event: True)
DEADLINE = (source, "is_expired", lambda state, now_s: False)
VERIFYING = (
    target,
    "is_good",
    lambda state: all(target.is_full(state, rank) for rank in range(state.ranks)),
)


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(FENCE, id="fence"),
        pytest.param(TARGET_EPOCH, id="target-epoch"),
        pytest.param(SOURCE_EPOCH, id="source-epoch"),
        pytest.param(COMPLETION, id="completion"),
        pytest.param(PIN, id="pin"),
        pytest.param(COMPUTED, id="computed"),
        pytest.param(PREEMPTION, id="preemption"),
        pytest.param(DEADLINE, id="deadline"),
        pytest.param(VERIFYING, id="verifying"),
    ],
)
def test_walks_find_a_missing_rule(monkeypatch, mutation):
    without(monkeypatch, *mutation)
    with pytest.raises(AssertionError):  # the model's BrokenRuleError, or an end's own invariant
        walk_all()


# --- what each rule prevents, step by step --------------------------------------------------------


def started(total=2, computed=True) -> World:
    """One request, registered on both ends, its prompt computed and posted."""
    world = World(Checking.OFF)
    world.submit(0, total, held=0)
    world.allocate()
    world.deliver(0)
    world.schedule(0, total)
    if computed:
        world.complete()
        world.report()
    return world


def late_write() -> None:
    """Decode aborts, and a write lands in blocks that it has given to another request."""
    world = started()
    world.abort(0)
    world.submit(1, total=4, held=0)
    world.allocate()
    world.land(0)


def late_proof() -> None:
    """Prefill aborts and says that it is done; a write of it lands afterwards."""
    world = started()
    world.drop(0)
    while world.net:
        world.deliver(0)
    world.land(0)


def earlier_attempt() -> None:
    """The first attempt fails; its notice comes while the second waits for its own."""
    world = started()
    world.land(0)
    world.land(0)
    notice = world.net.pop()
    world.kill_prefill()
    world.reap()
    world.submit(0, total=2, held=0)
    world.allocate()
    world.net.append(notice)
    world.deliver(-1)


def reused_source() -> None:
    """Prefill preempts, and another request's data is in the block when the write reads it."""
    world = started(total=2)
    world.preempt(0)
    world.submit(1, total=4, held=4)
    world.schedule(1, 4)
    world.complete()
    world.land(0)
    world.land(0)


def hit_before_computed() -> None:
    """Two steps are under way, the first completes: the blocks of the second hold nothing yet."""
    world = World(Checking.OFF)
    world.submit(0, total=2, held=0)
    world.allocate()
    world.deliver(0)
    world.schedule(0, 1)
    world.schedule(0, 1)
    world.complete()
    world.report()


SCENARIOS = {
    "fence": (FENCE, late_write, "writes into a block of"),
    "epoch": (TARGET_EPOCH, earlier_attempt, "starts on"),
    "completion": (COMPLETION, late_proof, "with a write in flight"),
    "pin": (PIN, reused_source, "sent"),
    "computed": (COMPUTED, hit_before_computed, "before it was computed"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_breaks_only_without_its_rule(monkeypatch, name):
    mutation, scenario, message = SCENARIOS[name]
    scenario()
    without(monkeypatch, *mutation)
    with pytest.raises(BrokenRuleError, match=message):
        scenario()
