"""What an operator tells a running cluster: files in its run folder, which nobody else may enter.

A command writes an order and waits for the answer beside it; `baton serve` looks for orders a few
times per second. There is no port for this: who may write into the folder may also end the process.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from baton.errors import BatonError, Reason

LOOK_EVERY_S = 0.25
_ANSWER_WITHIN_S = 10.0
_ORDERS_MAX = 64
_ORDER, _ANSWER = ".order", ".answer"

Obey = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Orders:
    """The orders to one cluster."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def give(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Waits until the order has been taken; what it led to. Raises BatonError if refused."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{uuid4().hex}{_ORDER}"
        _write(path, order)
        try:
            answer = _wait_for(path.with_suffix(_ANSWER))
        finally:
            path.unlink(missing_ok=True)
            path.with_suffix(_ANSWER).unlink(missing_ok=True)
        if "reason" in answer:
            raise BatonError.from_wire(answer)
        return answer

    def take(self, obey: Obey) -> int:
        """Carries out what has been ordered, oldest first; how many orders that were."""
        found = sorted(self._folder.glob(f"*{_ORDER}"), key=_age)[:_ORDERS_MAX]
        for path in found:
            _write(path.with_suffix(_ANSWER), _obeyed(path, obey))
            path.unlink(missing_ok=True)
        return len(found)

    def close(self) -> None:
        """Removes the folder and what is left in it."""
        # Somebody may be writing one right now, and whoever closes has more to end.
        shutil.rmtree(self._folder, ignore_errors=True)


def _obeyed(path: Path, obey: Obey) -> Mapping[str, Any]:
    try:
        return obey(dict(json.loads(path.read_text(encoding="utf-8"))))
    except BatonError as error:
        return error.to_wire()
    except (OSError, ValueError, KeyError, TypeError) as error:
        return BatonError(Reason.INVALID_REQUEST, f"unreadable order: {error}").to_wire()


def _wait_for(path: Path) -> dict[str, Any]:
    until = time.monotonic() + _ANSWER_WITHIN_S
    while time.monotonic() < until:
        if path.exists():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return found
        time.sleep(LOOK_EVERY_S / 5)
    raise BatonError(
        Reason.NO_WORKER, f"`baton serve` did not answer within {_ANSWER_WITHIN_S:g} s"
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """In one step: no reader ever sees half of it."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(dict(content)), encoding="utf-8")
    draft.replace(path)


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
