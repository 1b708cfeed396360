"""What holds for every view: bounds, credit, monotony, rest, and a memory that survives JSON."""

import itertools
import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.scaling.decision import Reason
from cluster.scaling.law import decide
from cluster.scaling.memory import Memory, from_json
from cluster.scaling.view import Signal
from tests.unit.cluster.scaling.sights import counts, later, pool, rules, sight

RATIOS = st.floats(0, 20)
LOADS = st.floats(0, 30)
POOLS = st.builds(
    pool,
    st.integers(0, 12),
    LOADS,
    starting=st.integers(0, 3),
    backlog=st.floats(0, 100),
    attained=st.none() | RATIOS,
    predicted=st.none() | RATIOS,
    kv=st.floats(0, 1),
)
SENDING = st.none() | st.builds(Signal, st.floats(0, 10))
VIEWS = st.builds(sight, POOLS, POOLS, transfer_backlog_s=SENDING, waiting=st.integers(0, 5))


def in_turn(views, asked):
    memory = Memory()
    for n, view in enumerate(views):
        said = decide(view, memory, n * 5.0, asked)
        memory = said.memory
        yield view, said


@given(st.lists(VIEWS, min_size=1, max_size=12), st.integers(4, 20), st.booleans())
@settings(max_examples=60, deadline=None)
def test_never_outside_bounds_and_budget(views, budget, may_change):
    asked = rules(gpu_budget=budget, prefill_min_workers=2, role_changes=may_change)
    for _, said in in_turn(views, asked):
        assert 2 <= said.prefill <= 10
        assert 1 <= said.decode <= 10
        assert said.prefill + said.decode <= budget
        assert said.to_decode == 0 or may_change
        assert not (said.to_decode and said.to_prefill)
        assert all(why.text and isinstance(why.reason, Reason) for why in said.why)


@given(st.lists(VIEWS, min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_at_most_one_leaves_at_a_time(views):
    asked = rules(role_changes=False)
    before = None
    for _, said in in_turn(views, asked):
        if before:
            assert said.prefill >= before[0] - 1
            assert said.decode >= before[1] - 1
        before = counts(said)


@given(st.lists(VIEWS, min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_the_memory_survives_json(views):
    asked = rules()
    for _, said in in_turn(views, asked):
        assert from_json(json.loads(json.dumps(said.memory.as_json()))) == said.memory


@given(POOLS, POOLS, st.sampled_from(["prefill", "decode"]), st.floats(30.001, 1e6))
@settings(max_examples=50, deadline=None)
def test_stale_data_change_nothing(one, other, which, age_s):
    asked = rules(role_changes=False)
    memory = decide(sight(), Memory(), 0.0, asked).memory
    view = sight(one, other)
    stale = replace(getattr(view, which), arriving_tokens_per_s=Signal(999.0, age_s))
    said = decide(replace(view, **{which: stale}), memory, 5.0, asked)
    assert counts(said) == (2, 2)
    assert said.memory == memory


@given(VIEWS)
@settings(max_examples=60, deadline=None)
def test_what_starts_is_credited(view):
    """The same view with what was asked for under way asks for nothing more."""
    asked = rules(role_changes=False)
    said = decide(view, Memory(), 0.0, asked)
    under_way = replace(
        view,
        prefill=replace(view.prefill, starting=max(said.prefill - view.prefill.ready, 0)),
        decode=replace(view.decode, starting=max(said.decode - view.decode.ready, 0)),
    )
    again = decide(under_way, said.memory, 5.0, asked)
    assert again.prefill <= said.prefill
    assert again.decode <= said.decode


SIGNALS = st.sampled_from(["arriving_tokens_per_s", "backlog_s", "attained", "predicted"])


@given(POOLS, SIGNALS, st.floats(1, 10))
@settings(max_examples=60, deadline=None)
def test_monotone_in_each_signal_of_prefill(one, name, factor):
    signal = getattr(one, name)
    if signal is None or one.ready == 0:
        return
    worse = replace(one, **{name: Signal(signal.value * factor)})
    asked, idle = rules(role_changes=False), pool(2, 0.0, kv=0.0)
    low, high = (later(sight(p, idle), 30, asked) for p in (one, worse))
    assert high.prefill >= low.prefill


@given(POOLS, st.floats(1, 10))
@settings(max_examples=50, deadline=None)
def test_monotone_in_the_memory_of_decode(one, factor):
    if one.ready == 0:
        return
    worse = replace(one, kv_used=Signal(min(one.kv_used.value * factor, 1.0)))
    asked = rules(role_changes=False)
    low, high = (later(sight(pool(2, 0.0), p), 30, asked) for p in (one, worse))
    assert high.decode >= low.decode


@given(LOADS, LOADS, st.integers(1, 10), st.integers(1, 10), st.integers(0, 12))
@settings(max_examples=15, deadline=None)
def test_constant_load_comes_to_rest(prompts, answers, prefill, decode, delay):
    """Workers follow what is said after a while: the counts move one way and then stay."""
    asked, memory = rules(role_changes=False), Memory()
    said = [(prefill, decode)] * (delay + 1)
    for n in range(400):
        ready = tuple(min(past[i] for past in said[-delay - 1 :]) for i in (0, 1))
        pools = [
            pool(ready[i], load, starting=said[-1][i] - ready[i])
            for i, load in ((0, prompts), (1, answers))
        ]
        decision = decide(sight(*pools), memory, n * 5.0, asked)
        memory = decision.memory
        said.append(counts(decision))
    for i in (0, 1):
        steps = [b[i] - a[i] for a, b in itertools.pairwise(said) if a[i] != b[i]]
        assert all(step > 0 for step in steps) or all(step < 0 for step in steps)
    assert said[-1] == said[-100]
