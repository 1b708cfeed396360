"""One event, one line, in both forms."""

import io
import json
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator

import pytest

from baton.log import KEYS_MAX, Format, Level, RateLimit, configure_logging


@pytest.fixture(autouse=True)
def restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(fmt: Format, level: Level = "info") -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    configure_logging(level, fmt, stream)
    return stream, logging.getLogger("router.flow")


def fail() -> None:
    raise ValueError("boom")


def test_text_is_one_line_with_fields() -> None:
    stream, log = logged("text")
    log.info("took %d ms", 5, extra={"request_id": "r.1"})
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert line.endswith("took 5 ms request_id='r.1'\n")
    assert " INFO router.flow [" in line


def test_a_message_cannot_fake_a_second_line() -> None:
    stream, log = logged("text")
    log.info("a\nERROR b\r")
    assert stream.getvalue().endswith("a\\nERROR b\\r\n")


def test_a_traceback_follows_its_event_indented() -> None:
    stream, log = logged("text")
    try:
        fail()
    except ValueError:
        log.exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("failed")
    assert rest[-1] == "    ValueError: boom"
    assert all(line.startswith("    ") for line in rest)


def test_json_is_one_object_per_line() -> None:
    stream, log = logged("json")
    log.warning("a\nb", extra={"worker": {"id"}, "level": "fake"})
    try:
        fail()
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["message"], first["level"], first["logger"]) == ("a\nb", "warning", "router.flow")
    assert first["worker"] == "{'id'}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["ts"])
    assert list(first)[:2] == ["ts", "level"]
    assert second["traceback"].endswith("ValueError: boom")


def test_less_severe_events_are_left_out() -> None:
    stream, log = logged("text", "error")
    log.warning("quiet")
    assert stream.getvalue() == ""


def test_a_second_configuration_replaces_the_first_only() -> None:
    foreign = logging.NullHandler()
    logging.getLogger().addHandler(foreign)
    old, _ = logged("text")
    new, log = logged("json")
    log.info("once")
    assert old.getvalue() == ""
    assert json.loads(new.getvalue())["message"] == "once"
    assert foreign in logging.getLogger().handlers


def events(limit: RateLimit, at_s: float, times: int = 1, **facts: object) -> list[dict]:
    """What passes of so many events at one moment."""
    given = {"name": "router", "msg": "refused %s", "levelno": 20, "created": at_s, **facts}
    records = [logging.makeLogRecord(given) for _ in range(times)]
    return [record.__dict__ for record in records if limit.filter(record)]


def test_what_comes_too_often_is_counted_instead() -> None:
    limit = RateLimit(3)
    assert len(events(limit, 100.0, 10)) == 3
    assert events(limit, 100.9, 5) == []
    first, second = events(limit, 101.0, 2)
    assert first["suppressed"] == 12
    assert "suppressed" not in second


def test_each_kind_of_event_has_its_own_count() -> None:
    limit = RateLimit(1)
    assert len(events(limit, 0.0, 2)) == 1
    for other in ({"name": "x"}, {"msg": "other"}, {"levelno": 30}, {"reason": "queue_full"}):
        assert len(events(limit, 0.0, 2, **other)) == 1
    assert events(limit, 0.0, args=("another value",)) == []


def test_nobody_is_counted_without_a_limit() -> None:
    assert len(events(RateLimit(0), 0.0, 1000)) == 1000


def test_the_memory_of_a_limit_is_bounded() -> None:
    limit = RateLimit(1)
    for number in range(KEYS_MAX + 10):
        events(limit, 0.0, msg=f"event {number}")
    assert len(limit._counts) == KEYS_MAX
    # A clock that jumps back begins anew.
    assert len(events(limit, -5.0, msg=f"event {KEYS_MAX}")) == 1


def test_another_thread_may_forget_a_kind_meanwhile() -> None:
    class Forgetful(OrderedDict):
        def __setitem__(self, kind: object, count: object) -> None:
            super().__setitem__(kind, count)
            del self[kind]

    limit = RateLimit(1)
    limit._counts = Forgetful()
    assert len(events(limit, 0.0)) == 1


def test_the_limit_is_in_force() -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream, per_second=2)
    for number in range(5):
        logging.getLogger("router").info("event %d", number)
    assert len(stream.getvalue().splitlines()) == 2
