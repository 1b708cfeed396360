"""What the front door promises."""

import pytest
from pydantic import ValidationError

from baton.settings import RouterSettings, SloSettings


def test_longer_prompts_are_promised_less() -> None:
    slo = SloSettings(ttft_s=1.0, ttft_s_per_1000_tokens=0.5)
    assert (slo.ttft_of(0), slo.ttft_of(4000)) == (1.0, 3.0)


@pytest.mark.parametrize("wrong", [{"ttft_s": 0.0}, {"tpot_s": -1.0}, {"ttft_s": float("inf")}])
def test_promises_are_real_times(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SloSettings(**wrong)


def test_policies_are_named() -> None:
    assert RouterSettings(policy="round_robin").policy == "round_robin"
    with pytest.raises(ValidationError):
        RouterSettings(policy="best")
