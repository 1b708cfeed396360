from collections import Counter

import pytest

from simulator.traces.generator import Manner, Spread, Workload, generate

LOAD = Workload(600, 2.0, seed=3)


def test_the_same_seed_gives_the_same_load():
    assert generate(LOAD) == generate(LOAD)
    assert generate(LOAD).requests != generate(Workload(600, 2.0, seed=4)).requests


def test_order_sizes_and_keys():
    trace = generate(LOAD)
    times = [r.arrival_s for r in trace.requests]
    assert times == sorted(times)
    assert [r.number for r in trace.requests] == list(range(600))
    for r in trace.requests:
        assert 1 <= r.input_tokens <= LOAD.input_tokens_max
        assert r.output_tokens >= 1
        assert len(r.blocks) == -(-r.input_tokens // 512)


def test_turns_extend_their_session():
    last = {}
    for r in generate(LOAD).requests:
        before = last.get(r.session)
        if before:
            assert r.input_tokens > before.input_tokens
            whole = before.whole_blocks
            assert r.blocks[:whole] == before.blocks[:whole]
            assert before.tenant == r.tenant
        last[r.session] = r
    assert len(last) < 600


def test_system_prompts_are_shared_and_hot():
    load = Workload(500, 2.0, system_prompts=5, system_skew=1.5, system_tokens=Spread(2048))
    heads = Counter(r.blocks[0] for r in generate(load).requests)
    assert len(heads) <= 5
    assert heads.most_common(1)[0][1] > 150


def test_agents_return_sooner_than_people():
    def gap_s(share):
        seen, gaps = {}, []
        for r in generate(Workload(800, 1.0, agent_share=share)).requests:
            if r.session in seen:
                gaps.append(r.arrival_s - seen[r.session])
            seen[r.session] = r.arrival_s
        return sum(gaps) / len(gaps)

    assert gap_s(1.0) < gap_s(0.0) / 3


@pytest.mark.parametrize(
    "bad",
    [
        {"requests": 0},
        {"sessions_per_s": 0},
        {"agent_share": 1.5},
        {"system_prompts": 0},
        {"system_skew": -1},
    ],
)
def test_parameters_are_checked(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Workload(**({"requests": 5, "sessions_per_s": 1.0} | bad))


def test_spreads_and_manners_are_checked():
    with pytest.raises(ValueError, match="not a spread"):
        Spread(0)
    with pytest.raises(ValueError, match="at least one turn"):
        Manner(0.5, Spread(1), Spread(1), Spread(1))
