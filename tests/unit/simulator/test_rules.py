import pytest

from simulator.rules import EngineRules, Freshness, NetworkRules
from tests.unit.simulator.builders import world


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: EngineRules(kv_tokens=0), "at least 1"),
        (lambda: EngineRules(headroom=1.0), "share"),
        (lambda: EngineRules(max_batched_tokens=100, max_running=100), "leave tokens"),
        (lambda: NetworkRules(bytes_per_s=0), "more than 0"),
        (lambda: NetworkRules(latency_s=-1), "at least 0"),
        (lambda: Freshness(every_s=-1), "at least 0"),
        (lambda: Freshness(delay_s=1), "every_s above 0"),
        (lambda: world(prefill=0, decode=0), "at least one worker"),
        (lambda: world(routers=0), "at least 1"),
        (lambda: world(startup_s=-1), "at least 0"),
    ],
)
def test_nonsense_is_refused(make, why):
    with pytest.raises(ValueError, match=why):
        make()


def test_freshness_is_live_without_a_period():
    assert Freshness().live
    assert not Freshness(every_s=1.0).live
