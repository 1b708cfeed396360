"""The scaling law: what it wants, and why."""

from dataclasses import replace

import pytest

from cluster.scaling.decision import Reason
from cluster.scaling.law import decide
from cluster.scaling.memory import Memory
from cluster.scaling.view import Signal
from tests.unit.cluster.scaling.sights import counts, later, pool, reasons, rules, sight


def test_enough_is_enough():
    said = decide(sight(), Memory(), 0.0, rules())
    assert counts(said) == (2, 2)
    assert reasons(said) == (Reason.STEADY, Reason.STEADY)
    assert "busy workers" in said.why[0].text


def test_each_pool_grows_with_its_own_work():
    said = decide(sight(pool(2, 3.0), pool(2, 1.0)), Memory(), 0.0, rules())
    assert counts(said) == (4, 2)
    assert reasons(said) == (Reason.LOAD, Reason.STEADY)
    said = decide(sight(pool(2, 1.0), pool(2, 5.0)), Memory(), 0.0, rules())
    assert counts(said) == (2, 6)


def test_workers_that_start_are_credited():
    said = decide(sight(pool(2, 3.0, starting=2)), Memory(), 0.0, rules())
    assert counts(said)[0] == 4
    assert reasons(said)[0] is Reason.STEADY


def test_who_waits_for_a_machine_is_given_up_when_the_load_has_gone():
    waits = replace(pool(6, 1.0, starting=3), unplaced=3)
    assert later(sight(waits), rounds=13).prefill == 8
    assert later(sight(replace(waits, unplaced=2)), rounds=13).prefill == 9


def test_decode_is_the_limit_and_prefill_stays():
    """First tokens come late because decode has no memory: more prefill would not help."""
    full = pool(2, 1.9, backlog=8.0, kv=0.97)
    late = pool(2, 1.0, attained=4.0, predicted=4.0, backlog=1.5)
    said = later(sight(late, full))
    assert said.prefill == 2
    assert said.decode > 2
    assert reasons(said)[0] is Reason.STEADY


def test_prefill_is_the_limit_and_decode_stays():
    """Decode gets no more than all the prefill workers there may be can pass on."""
    flooded = pool(2, 8.0, backlog=9.0, attained=5.0, predicted=5.0)
    said = later(sight(flooded, pool(2, 6.0)), settings=rules(prefill_max_workers=2))
    assert counts(said) == (2, 2)


def test_late_first_tokens_are_prefills_doing_when_decode_has_room():
    said = later(sight(pool(2, 1.6, attained=1.5, predicted=1.2), pool(2, 1.0)))
    assert counts(said) == (3, 2)
    assert reasons(said)[0] is Reason.TTFT


def test_a_promise_that_cannot_be_kept_does_not_buy_all_machines():
    hopeless = pool(3, 0.5, attained=9.0, predicted=9.0)
    assert later(sight(hopeless)).prefill <= 3


def test_roles_change_before_machines_are_added():
    """The mix shifts from prompts to answers: what prefill can spare goes over at once."""
    said = decide(sight(pool(4, 0.6), pool(2, 3.2)), Memory(), 0.0, rules())
    assert (said.to_decode, said.to_prefill) == (2, 0)
    assert counts(said) == (2, 4)
    assert reasons(said) == (Reason.ROLE_CHANGE, Reason.ROLE_CHANGE)


def test_roles_stay_where_they_are_told_to():
    said = decide(sight(pool(4, 0.6), pool(2, 3.2)), Memory(), 0.0, rules(role_changes=False))
    assert (said.to_decode, counts(said)) == (0, (4, 4))


def test_roles_change_back_only_after_a_rest():
    said = decide(sight(pool(4, 0.6), pool(2, 3.2)), Memory(), 0.0, rules())
    back = sight(pool(2, 3.2), pool(4, 0.3))
    soon = decide(back, said.memory, 30.0, rules())
    assert soon.to_prefill == 0
    rested = replace(said.memory, decode=Memory().decode, prefill=Memory().prefill)
    assert decide(back, rested, 61.0, rules()).to_prefill == 2


def test_one_leaves_after_a_while_and_only_one():
    quiet = sight(pool(4, 1.0), pool(2, 1.5))
    settings = rules(role_changes=False, down_after_s=60)
    memory, wanted = Memory(), []
    for n in range(16):
        said = decide(quiet, memory, n * 5.0, settings)
        memory = said.memory
        wanted.append(said.prefill)
    assert wanted[:12] == [4] * 12
    # Those who were sent away are still there: no further one leaves.
    assert wanted[12:] == [3] * 4
    assert said.why[0].reason is Reason.STEADY


def test_nobody_leaves_while_the_others_would_be_too_few():
    said = later(sight(pool(3, 1.9), pool(3, 1.9)))
    assert counts(said) == (3, 3)


@pytest.mark.parametrize("trouble", [{"kv": 0.7}, {"backlog": 1.0}, {"attained": 0.9}])
def test_nobody_leaves_while_anything_is_tight(trouble):
    assert later(sight(decode=pool(3, 1.0, **trouble))).decode >= 3


def test_a_removal_that_is_missed_teaches_patience():
    settings = rules(role_changes=False)
    quiet, busy = sight(pool(3, 0.8)), sight(pool(2, 2.2))
    memory = Memory()
    for n in range(13):
        memory = decide(quiet, memory, n * 5.0, settings).memory
    assert memory.prefill.wanted == 2
    for n in range(13, 40):
        memory = decide(busy, memory, n * 5.0, settings).memory
    assert memory.prefill.wanted >= 3
    assert memory.prefill.patience_s == 2 * settings.scaling.down_after_s


def test_a_lost_worker_is_wanted_back():
    memory = decide(sight(pool(4, 2.5)), Memory(), 0.0, rules()).memory
    said = decide(sight(pool(3, 2.5)), memory, 5.0, rules())
    assert said.prefill == 4


def test_the_budget_goes_to_whoever_is_busier():
    said = decide(sight(pool(2, 1.8), pool(4, 5.3)), Memory(), 0.0, rules(gpu_budget=8))
    assert counts(said) == (2, 6)
    assert said.why[0].reason is Reason.BUDGET
    assert "no GPUs" in said.why[0].text


def test_workers_trade_places_within_the_budget():
    said = decide(sight(pool(4, 1.0), pool(4, 5.0)), Memory(), 0.0, rules(gpu_budget=8))
    assert (said.to_decode, counts(said)) == (2, (2, 6))
    alike = decide(sight(pool(4, 4.4), pool(4, 4.6)), Memory(), 0.0, rules(gpu_budget=8))
    assert (alike.to_decode, counts(alike)) == (0, (4, 4))


@pytest.mark.parametrize(
    "name", ["arriving_tokens_per_s", "worker_tokens_per_s", "backlog_s", "kv_used"]
)
def test_missing_or_stale_measurements_hold_everything(name):
    memory = decide(sight(pool(2, 1.0), pool(2, 1.0)), Memory(), 0.0, rules()).memory
    flooded = pool(2, 9.0, backlog=9.0)
    for broken, wrong in (
        (None, "is missing"),
        (Signal(1.0, 31.0), "is 31 s old, allowed are 30"),
        (Signal(float("nan")), "is nan, which is out of range"),
        (Signal(-1.0), "is -1, which is out of range"),
    ):
        view = sight(flooded, replace(flooded, **{name: broken}))
        said = decide(view, memory, 5.0, rules())
        assert counts(said) == (2, 2)
        assert reasons(said) == (Reason.BLIND, Reason.BLIND)
        assert said.memory == memory
        assert f"held, {name} {wrong}" in said.why[1].text


@pytest.mark.parametrize("sending", [Signal(0.0, 99.0), Signal(float("inf"))])
def test_what_is_wrong_with_transfers_holds_everything(sending):
    said = decide(sight(pool(2, 9.0), transfer_backlog_s=sending), Memory(), 0.0, rules())
    assert reasons(said) == (Reason.BLIND, Reason.BLIND)
    assert "transfer_backlog_s is" in said.why[0].text


def test_nobody_served_is_no_blindness():
    unserved = sight(pool(2, 5.0, attained=None, predicted=None))
    assert decide(unserved, Memory(), 0.0, rules()).prefill == 6


def test_kv_that_still_leaves_asks_for_senders():
    sending = sight(pool(2, 1.9), transfer_backlog_s=Signal(3.0))
    assert reasons(later(sending))[0] is Reason.TRANSFER


ZERO = {"prefill_min_workers": 0, "decode_min_workers": 0, "zero_after_s": 100.0}


def test_to_zero_and_back():
    idle = {"load": 0.0, "attained": None, "predicted": None, "kv": 0.0}
    view, memory = sight(pool(1, **idle), pool(1, **idle)), Memory()
    for n in range(21):
        said = decide(view, memory, n * 5.0, rules(**ZERO))
        memory = said.memory
        assert counts(said) == ((0, 0) if n >= 20 else (1, 1))
    assert reasons(said) == (Reason.IDLE, Reason.IDLE)
    gone = sight(pool(0, **idle), pool(0, **idle))
    said = decide(gone, memory, 200.0, rules(**ZERO))
    assert counts(said) == (0, 0)
    said = decide(replace(gone, waiting=1), said.memory, 205.0, rules(**ZERO))
    assert counts(said) == (1, 1)
    assert reasons(said) == (Reason.WOKEN, Reason.WOKEN)


def test_whoever_was_never_asked_for_anything_is_stopped_too():
    never = replace(pool(1, 0.0, attained=None, predicted=None, kv=0.0), worker_tokens_per_s=None)
    view, memory = sight(never, never), Memory()
    for n in range(21):
        said = decide(view, memory, n * 5.0, rules(**ZERO))
        memory = said.memory
    assert counts(said) == (0, 0)
    asked = replace(never, arriving_tokens_per_s=Signal(1.0))
    said = decide(sight(asked, never), memory, 105.0, rules(**ZERO))
    assert "worker_tokens_per_s is missing" in said.why[0].text


def test_the_time_without_requests_begins_when_there_is_somebody_to_ask():
    idle = {"load": 0.0, "attained": None, "predicted": None, "kv": 0.0}
    coming, memory = sight(pool(0, **idle, starting=1), pool(1, **idle)), Memory()
    for n in range(100):
        said = decide(coming, memory, n * 5.0, rules(**ZERO))
        memory = said.memory
        assert counts(said) == (1, 1)
    there = sight(pool(1, **idle), pool(1, **idle))
    assert counts(decide(there, memory, 590.0, rules(**ZERO))) == (1, 1)
    assert counts(decide(there, memory, 595.0, rules(**ZERO))) == (0, 0)


def test_one_pool_alone_answers_for_first_tokens():
    settings = rules(prefill_min_workers=0, prefill_max_workers=0)
    none = pool(0, 0.0, attained=1.5, predicted=1.5)
    said = later(sight(none, pool(3, 2.4)), settings=settings)
    assert counts(said) == (0, 5)
    assert said.why[1].reason is Reason.TTFT
