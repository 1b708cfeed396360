"""The record in a few words."""

from baton.ids import WorkerId
from router.policy.decode_choice import DecodeChoice, DecodeWhy
from router.policy.explanation import Explanation, PrefillPart, Weighed

P, D = WorkerId("p"), WorkerId("d")
DECODE = DecodeChoice(D, DecodeWhy.FASTEST, ())


def test_a_line_names_both_workers_and_why() -> None:
    part = PrefillPart(P, "warmest", 1.5, True, 0.012, False, (), (Weighed(P, 512, 0.1, 0.3, 0.5),))
    line = Explanation("affinity", "disaggregated", 600, prefill=part, decode=DECODE).line()
    assert line == (
        "division=disaggregated; prompt_tokens=600; prefill=p; prefill_reason=warmest; "
        "cached_tokens=512; queue_ms=100; predicted_ttft_ms=300; waited_ms=12; "
        "decode=d; decode_reason=fastest"
    )


def test_without_a_prefill_worker_it_is_shorter() -> None:
    line = Explanation("affinity", "short_prompt", 6, decode=DECODE).line()
    assert line == "division=short_prompt; prompt_tokens=6; decode=d; decode_reason=fastest"
