"""Files are followed, and what cannot be read changes nothing."""

from pathlib import Path

import pytest

from baton.clock import ManualClock
from baton.watched import Watched


class Numbers:
    """Two files, each with a number, and their sum."""

    def __init__(self, folder: Path) -> None:
        self.paths = (folder / "a", folder / "b")
        self.clock = ManualClock(0.0)
        self.made = 0
        self.write("1", "2")

    def write(self, *texts: str) -> None:
        for path, text in zip(self.paths, texts, strict=False):
            draft = path.with_suffix(".tmp")
            draft.write_text(text)
            draft.replace(path)

    def sum(self) -> int:
        self.made += 1
        return sum(int(path.read_text()) for path in self.paths)

    def watched(self) -> Watched[int]:
        return Watched(self.paths, self.sum, self.clock.now)


@pytest.fixture
def numbers(tmp_path: Path) -> Numbers:
    return Numbers(tmp_path)


def test_a_change_is_seen_within_a_second_and_not_looked_for_before(numbers: Numbers) -> None:
    watched = numbers.watched()
    numbers.write("10")
    numbers.clock.advance(0.9)
    assert watched.latest() == 3
    numbers.clock.advance(0.1)
    assert watched.latest() == 12
    numbers.clock.advance(5)
    assert (watched.latest(), numbers.made) == (12, 2)


def test_what_could_not_be_read_is_tried_again_without_a_change(
    numbers: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [OSError("too many open files")] * 2

    def make() -> int:
        if numbers.made and faults:
            raise faults.pop()
        return numbers.sum()

    watched = Watched(numbers.paths, make, numbers.clock.now)
    numbers.write("10")
    for expected in (3, 3, 12):
        numbers.clock.advance(1)
        assert watched.latest() == expected
    messages = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert messages == ["cannot be used, the earlier stays"]


@pytest.mark.parametrize("broken", ["x", None])
def test_what_cannot_be_read_leaves_the_earlier_and_is_told_once(
    numbers: Numbers, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    watched = numbers.watched()
    numbers.write(broken) if broken else numbers.paths[0].unlink()
    for _ in range(3):
        numbers.clock.advance(1)
        assert watched.latest() == 3
    assert [record.message for record in caplog.records] == ["cannot be used, the earlier stays"]
    numbers.write("5")
    numbers.clock.advance(1)
    assert watched.latest() == 7


def test_the_first_has_to_be_right(numbers: Numbers) -> None:
    numbers.write("x")
    with pytest.raises(ValueError, match="invalid literal"):
        numbers.watched()
    numbers.paths[0].unlink()
    with pytest.raises(FileNotFoundError):
        numbers.watched()
