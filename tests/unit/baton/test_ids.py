"""Leg ids read back as what they name; digests see content, not order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baton.ids import Leg, LegId, RequestId, config_digest, parse_leg_id, router_digest

legs = st.builds(
    LegId, st.text(min_size=1).map(RequestId), st.integers(0, 10**9), st.sampled_from(Leg)
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_form_of_a_leg_id() -> None:
    assert str(LegId(RequestId("chatcmpl.7"), 2, Leg.DECODE)) == "chatcmpl.7.2.d"


@given(legs)
def test_leg_ids_round_trip(leg: LegId) -> None:
    assert parse_leg_id(str(leg)) == leg


@given(legs, legs)
def test_different_legs_have_different_ids(one: LegId, other: LegId) -> None:
    assert (one == other) == (str(one) == str(other))


@given(st.text())
def test_any_text_is_refused_or_is_exactly_a_leg_id(text: str) -> None:
    try:
        leg = parse_leg_id(text)
    except ValueError:
        return
    assert str(leg) == text


@pytest.mark.parametrize("text", ["", "a", "a.0", ".0.p", "a.-1.p", "a.01.p", "a.0.x", "a.٣.p"])
def test_malformed_leg_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"leg|Leg"):
        parse_leg_id(text)


@pytest.mark.parametrize(("request_id", "attempt"), [("", 0), ("a", -1)])
def test_impossible_legs_cannot_be_made(request_id: str, attempt: int) -> None:
    with pytest.raises(ValueError, match="not a leg"):
        LegId(RequestId(request_id), attempt, Leg.SOLO)


@given(st.dictionaries(st.text(), json_values, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_change_a_digest(config: dict, rng) -> None:
    items = list(config.items())
    rng.shuffle(items)
    assert config_digest(dict(items)) == config_digest(config)


def test_a_digest_is_the_same_in_every_release() -> None:
    assert config_digest({"model": "demo", "block": 32}) == "14736c1cf12a917a"
    assert config_digest({"a": 1}) != config_digest({"a": 2})


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (object(), TypeError)])
def test_what_json_cannot_hold_has_no_digest(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        config_digest({"a": value})


def test_a_router_of_other_workers_or_settings_is_another_one() -> None:
    one = router_digest({"port": 1}, "a")
    assert one == router_digest({"port": 1}, "a")
    assert len({one, router_digest({"port": 2}, "a"), router_digest({"port": 1}, "b")}) == 3
