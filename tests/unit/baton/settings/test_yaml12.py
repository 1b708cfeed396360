"""Scalars mean what they look like, and what is written reads back the same."""

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from baton.settings import yaml12

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab-:# "), inner),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("null", None),
        ("~", None),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("1.", 1.0),
        ("-2.5e-3", -0.0025),
        ("1e3", 1000.0),
        ("-7", -7),
        (".5", 0.5),
        ("2026-01-31", "2026-01-31"),
        ("[a, 1]", ["a", 1]),
        ("{a: {b: null}}", {"a": {"b": None}}),
    ],
)
def test_scalars(text: str, value: object) -> None:
    parsed = yaml12.parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "x: {b: 1, b: 1}",
        "[",
        "!!python/name:os.system",
        "!!timestamp x",
        "!!int x",
        "? [a]\n: b",
        "a: 1\n---\nb: 2",
        "\x00",
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        yaml12.parse(text)


@given(values)
@example("\u00a0")
def test_dump_and_parse_agree_on_one_line(value: object) -> None:
    text = yaml12.dump(value)
    assert "\n" not in text
    assert yaml12.parse(text) == value
