"""Logging set-up: one line per event, as text for people or as JSON for machines.

Call `configure_logging` once per process. Fields given by `extra=` are kept in both forms. Line
breaks inside a message are escaped, so that no client input can fake a log line; in text form a
traceback follows its event, each line indented. An event that comes very often is written a few
times a second; the next one written says how many were not.
"""

import json
import logging
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

KEYS_MAX = 1024
"""So many kinds of events are counted; of more, the ones that came up longest ago are forgotten."""
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
    # Importing vLLM adds it to every record.
    "vllm_process_name",
}


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO router.flow [4711] message key=value`, in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, then the traceback if there is one."""
        head = f"{_utc(record)} {record.levelname} {record.name} [{record.process}]"
        fields = "".join(f" {key}={value!r}" for key, value in _extra(record).items())
        return "\n    ".join([f"{head} {_escaped(record.getMessage())}{fields}", *_trace(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts (UTC), level, logger, process, message, extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. What JSON cannot hold is written as its `repr`."""
        event: dict[str, object] = {
            "ts": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        event |= {key: value for key, value in _extra(record).items() if key not in event}
        if trace := _trace(record):
            event["traceback"] = "\n".join(trace)
        return json.dumps(event, default=repr)


@dataclass(slots=True)
class _Count:
    """Of one kind of event, within a second."""

    began_s: float
    written: int = 0
    suppressed: int = 0


class RateLimit(logging.Filter):
    """Lets `per_second` events of a kind pass; 0 = all.

    Events are of a kind that have the same logger, level, text before its values are put in, and
    reason. The first of a kind after some were left out says how many, in the field `suppressed`.
    """

    def __init__(self, per_second: int) -> None:
        super().__init__()
        self._per_second = per_second
        self._counts: OrderedDict[tuple[object, ...], _Count] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this event is written."""
        if not self._per_second:
            return True
        count = self._count(record)
        if count.written >= self._per_second:
            count.suppressed += 1
            return False
        count.written += 1
        return True

    def _count(self, record: logging.LogRecord) -> _Count:
        reason = getattr(record, "reason", None)
        kind = (record.name, record.levelno, str(record.msg), str(reason))
        count = self._counts.get(kind)
        if count is not None and 0 <= record.created - count.began_s < 1:
            return count
        if count is not None and count.suppressed:
            record.suppressed = count.suppressed
        # Filters run outside a handler's lock: another thread may have forgotten it meanwhile.
        self._counts.pop(kind, None)
        count = self._counts[kind] = _Count(record.created)
        if len(self._counts) > KEYS_MAX:
            self._counts.popitem(last=False)
        return count


class _Handler(logging.StreamHandler[TextIO]):
    """A class of its own, so that a second configuration replaces the first and nothing else."""


def configure_logging(
    level: Level, fmt: Format, stream: TextIO | None = None, *, per_second: int = 0
) -> None:
    """Sends events of `level` and above from all loggers to `stream` (None = standard error).

    `per_second`: most events of a kind in a second; 0 = all.
    """
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if fmt == "json" else TextFormatter())
    handler.addFilter(RateLimit(per_second))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def _utc(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


def _extra(record: logging.LogRecord) -> dict[str, object]:
    # Libraries mark records for themselves, with names of their own or underscores before them.
    return {
        key: value
        for key, value in record.__dict__.items()
        if key not in _STANDARD and not key.startswith("_")
    }


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info:
        return []
    return logging.Formatter().formatException(record.exc_info).splitlines()


def _escaped(message: str) -> str:
    return message.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n")
