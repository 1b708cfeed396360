"""Made-up loads that are as heavy at the end as at the beginning."""

import pytest

from simulator.traces.steady import KINDS, steady


@pytest.mark.parametrize("kind", KINDS)
def test_no_quarter_of_it_is_quieter(kind: str) -> None:
    trace = steady(kind, 20.0, 2000, seed=1)
    assert [r.number for r in trace.requests] == list(range(2000))
    assert trace.name == f"{kind} at 20/s"
    assert trace.per_second == pytest.approx(20.0)
    quarters = [0] * 4
    for request in trace.requests:
        quarters[min(int(4 * request.arrival_s / trace.seconds), 3)] += 1
    assert quarters == pytest.approx([500] * 4, rel=0.2)


def test_chats_are_no_agents() -> None:
    chat, agents = (steady(kind, 5.0, 300) for kind in ("chat", "agents"))
    prompts = [sum(r.input_tokens for r in trace.requests) for trace in (chat, agents)]
    assert prompts[1] > 1.5 * prompts[0]
    with pytest.raises(KeyError):
        steady("poems", 5.0, 300)
