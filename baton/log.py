"""Logging set-up: one line per event, as text for people or as JSON for machines.

Call `configure_logging` once per process. Fields given by `extra=` are kept in both forms. Line
breaks inside a message are escaped, so that no client input can fake a log line; in text form a
traceback follows its event, each line indented.
"""

import json
import logging
import sys
import time
from typing import Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

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
    """One JSON object per line: time (UTC), level, logger, process, message, extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. What JSON cannot hold is written as its `repr`."""
        event: dict[str, object] = {
            **_extra(record),
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if trace := _trace(record):
            event["traceback"] = "\n".join(trace)
        return json.dumps(event, default=repr)


class _Handler(logging.StreamHandler[TextIO]):
    """A class of its own, so that a second configuration replaces the first and nothing else."""


def configure_logging(level: Level, fmt: Format, stream: TextIO | None = None) -> None:
    """Sends events of `level` and above from all loggers to `stream` (None = standard error)."""
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if fmt == "json" else TextFormatter())
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
