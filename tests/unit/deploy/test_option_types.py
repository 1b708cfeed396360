"""Values of options that are wrong are said to be."""

import argparse
from pathlib import Path

import pytest

from baton.errors import StartupError
from deploy.option_types import above_zero, count, from_zero, writable


def test_numbers() -> None:
    assert (count("12"), above_zero("0.5"), from_zero("0")) == (12, 0.5, 0.0)


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (count, ("0", "-1", "1.5", "x")),
        (above_zero, ("0", "-1", "nan", "inf", "x")),
        (from_zero, ("-1", "nan", "inf", "x")),
    ],
)
def test_what_is_none(read, texts) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no number"):
            read(text)


def test_files_are_tried_and_left_as_they_are(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("kept")
    writable(None, Path("-"), there, tmp_path / "new")
    assert there.read_text() == "kept"
    with pytest.raises(StartupError, match="cannot be written: Is a directory"):
        writable(tmp_path)
