"""Each rule is needed: without it the model breaks."""

import pytest

from kv_transfer.ticket import source, target
from kv_transfer.ticket.messages import Register
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.ticket.model import World
from tests.unit.kv_transfer.ticket.moves import DEADLINE_S
from tests.unit.kv_transfer.ticket.walk import walk

SEEDS = range(200)


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
COMPUTED = (source, "computed_end", lambda state, layer: len(state.blocks))
LAYERS = (source, "computed_end", lambda state, layer: max(state.computed, default=0))
PREEMPTION = (source, "is_current", lambda state, event: True)
DEADLINE = (source, "is_expired", lambda state, now_s: False)
DOUBT = (source, "is_over", lambda event: True)
ADMISSION = (target, "may_admit", lambda alive: True)
VERIFYING = (target, "is_good", target.is_full)


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(FENCE, id="fence"),
        pytest.param(TARGET_EPOCH, id="target-epoch"),
        pytest.param(SOURCE_EPOCH, id="source-epoch"),
        pytest.param(COMPLETION, id="completion"),
        pytest.param(PIN, id="pin"),
        pytest.param(COMPUTED, id="computed"),
        pytest.param(LAYERS, id="layers"),
        pytest.param(PREEMPTION, id="preemption"),
        pytest.param(DEADLINE, id="deadline"),
        pytest.param(DOUBT, id="doubt"),
        pytest.param(ADMISSION, id="admission"),
        pytest.param(VERIFYING, id="verifying"),
    ],
)
def test_walks_find_a_missing_rule(monkeypatch, mutation):
    without(monkeypatch, *mutation)
    with pytest.raises(AssertionError):  # the model's BrokenRuleError, or an end's own invariant
        walk_all()


# --- what each rule prevents, step by step --------------------------------------------------------


def started(total=2, layers=1) -> World:
    """One request, registered on both ends, its prompt computed and posted."""
    world = World(Checking.OFF, layers)
    world.submit(0, total, held=0)
    world.begin(total)
    world.complete()
    world.report()
    return world


def late_write() -> None:
    """Decode aborts, and a write lands in blocks that it has given to another request."""
    world = started()
    world.abort(0)
    world.submit(1, total=4, held=0)
    world.begin(4)
    world.land(0)


def late_proof() -> None:
    """Prefill aborts and says that it is done; a write of it lands afterwards."""
    world = started()
    world.drop(0)
    world.arrive()
    world.land(0)


def doubted_write() -> None:
    """A write fails half-way; decode gives its blocks to the next, and the other half lands."""
    world = started()
    world.land(0)
    world.doubt(0)
    world.arrive()
    world.submit(1, total=4, held=0)
    world.begin(4)
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
    world.begin(2)
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
    world.begin(1)
    world.schedule(0, 1)
    world.complete()
    world.report()


def second_layer_before_computed() -> None:
    """The first layer of a step is computed, its second one is not."""
    world = World(Checking.OFF, layers=2)
    world.submit(0, total=2, held=0)
    world.begin(2)
    world.layer()


def overtaken_by_its_own_step() -> None:
    """A step is preempted while it runs; what it still tells concerns another request's blocks."""
    world = World(Checking.OFF, layers=2)
    world.submit(0, total=2, held=0)
    world.begin(2)
    world.preempt(0)
    world.submit(1, total=2, held=2)
    world.schedule(1, 2)
    world.complete()  # of the step that was preempted, into blocks that it has lost
    world.complete()  # of the next one, into the same
    world.report()


def earlier_registration() -> None:
    """The first attempt's registration comes again, while the second has none yet."""
    world = World(Checking.OFF)
    world.submit(0, total=2, held=0)
    world.schedule(0, 2)
    world.arrive()
    world.allocate()
    registration = world.net[-1]
    world.arrive()
    world.drop(0)
    world.arrive()
    world.submit(0, total=2, held=0)
    world.net.append(registration)
    world.deliver(-1)
    for _ in range(2):
        world.complete()
        world.report()
        world.schedule(0, 2)
    world.land(0)


def no_time_left() -> None:
    """The write deadline passes between two steps, before anybody has looked at the clock."""
    world = World(Checking.OFF)
    world.submit(0, total=2, held=0)
    world.begin(1)
    world.complete()
    world.now_s += DEADLINE_S
    world.report()


def damaged() -> None:
    """All has landed, and some of it is wrong."""
    world = World()
    world.submit(0, total=2, held=0)
    world.begin(2)
    world.complete()
    world.report()
    world.land(0)
    world.land(0, corrupt=True)
    world.arrive()


def reserved_too_early() -> None:
    """Prefill has not begun, and blocks of decode wait in its queue."""
    world = World(Checking.OFF)
    world.submit(0, total=2, held=0)
    world.arrive()
    world.allocate()
    world.arrive()
    assert not world.seen[Register]


SCENARIOS = {
    "fence": (FENCE, late_write, "writes into a block of"),
    "target-epoch": (TARGET_EPOCH, earlier_attempt, "starts on"),
    "source-epoch": (SOURCE_EPOCH, earlier_registration, "into a block of nobody"),
    "completion": (COMPLETION, late_proof, "with posts in flight"),
    "doubt": (DOUBT, doubted_write, "with a write in flight"),
    "pin": (PIN, reused_source, "sent"),
    "computed": (COMPUTED, hit_before_computed, "before it was computed"),
    "layers": (LAYERS, second_layer_before_computed, "before it was computed"),
    "preemption": (PREEMPTION, overtaken_by_its_own_step, "before it was computed"),
    "deadline": (DEADLINE, no_time_left, "after the write deadline"),
    "verifying": (VERIFYING, damaged, "starts on"),
    "admission": (ADMISSION, reserved_too_early, "before prefill has begun"),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_breaks_only_without_its_rule(monkeypatch, name):
    mutation, scenario, message = SCENARIOS[name]
    scenario()
    without(monkeypatch, *mutation)
    with pytest.raises(AssertionError, match=message):
        scenario()
