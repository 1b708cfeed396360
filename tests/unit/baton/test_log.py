"""One event, one line, in both forms."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from baton.log import Format, Level, configure_logging


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
    assert first["time"].endswith("Z")
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
