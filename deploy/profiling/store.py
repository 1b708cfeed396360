"""The profile's file while it is being measured: whole after every point, and begun again from it.

Beside the keys of `simulator.engine_model.profile` it has `measuring`: whose profile this is, and
which points are in it already. Readers of profiles leave it alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from baton.errors import StartupError, StartupFault
from deploy.profiling.meter import PrefillTimes, StepTimes
from deploy.profiling.points import Decode, Point, Prefill

_PLACES = 7
"""Digits of a second: tenths of a microsecond."""


class ProfileFile:
    """One profile on disk. `identity` is what must be equal for measurements to fit together."""

    def __init__(self, path: Path, identity: Mapping[str, Any], data: dict[str, Any]) -> None:
        self._path = path
        self._data = data
        points = self._data.get("measuring", {}).get("points", [])
        self._points: list[str] = points
        self._data["measuring"] = {"of": dict(identity), "points": points, "done": False}

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any], *, again: bool) -> ProfileFile:
        """Begins a file, or goes on with one that was interrupted.

        Writes nothing before the first point is measured: until then what was there is kept.
        Raises StartupError for a file that is no profile of `baton profile`, and, unless `again`,
        for one that is complete or of something else.
        """
        _writable(path)
        if not path.exists() or not path.stat().st_size:
            return cls(path, identity, {})
        data = _read(path)
        measuring = data.get("measuring")
        if not isinstance(measuring, dict):
            raise _foreign(f"{path} is there, and was not measured by `baton profile`")
        if again:
            return cls(path, identity, {})
        if measuring.get("of") != dict(identity):
            raise _taken(f"{path} is a profile of something else, or of other settings")
        if measuring.get("done"):
            raise _taken(f"{path} is complete")
        return cls(path, identity, data)

    @property
    def data(self) -> Mapping[str, Any]:
        """The profile as far as it is measured."""
        return self._data

    def has(self, point: object) -> bool:
        """Whether a point was measured."""
        return str(point) in self._points

    def describe(
        self, about: str, model: Mapping[str, Any], engine: Mapping[str, int] | None = None
    ) -> None:
        """What the measurements are of. Written with the next point."""
        self._data |= {"about": about, "model": dict(model), "engine": dict(engine or {})}

    def add(self, point: Point, found: PrefillTimes | StepTimes | None) -> None:
        """One point. None: it cannot be measured here, and is not tried again."""
        if isinstance(point, Prefill) and isinstance(found, PrefillTimes):
            name, row = _prefill_row(point, found)
            self._rows(name).append(row)
        elif isinstance(point, Decode) and isinstance(found, StepTimes):
            seconds = round(found.seconds, _PLACES)
            row = {"batch": point.batch, "context_tokens": found.context}
            self._rows("decode_step").append({**row, "seconds_per_step": seconds})
        self._done(point)

    def add_transfers(self, name: str, rows: list[dict[str, Any]]) -> None:
        """What moves KV, as one point."""
        self._data["transfer"] = rows
        self._done(name)

    def finish(self) -> None:
        """Nothing is missing any more."""
        self._data["measuring"]["done"] = True
        self.save()

    def _done(self, point: object) -> None:
        self._points.append(str(point))
        self.save()

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._data.setdefault(name, [])
        return rows

    def save(self) -> None:
        """Writes the whole file; whoever reads meanwhile finds the one before it."""
        with _beside(self._path) as beside:
            beside.write_text(json.dumps(self._data, indent=1) + "\n", encoding="utf-8")
            beside.replace(self._path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Where a file is written before it takes its place. Raises StartupError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
    except OSError as error:
        raise _foreign(f"{path} cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _writable(path: Path) -> None:
    """Before the measurement rather than after its first point. Raises StartupError."""
    with _beside(path) as beside:
        beside.touch()


def _prefill_row(point: Prefill, found: PrefillTimes) -> tuple[str, dict[str, Any]]:
    seconds = [round(s, _PLACES) for s in found.seconds]
    if point.prompts > 1:
        sizes = {"prompts": point.prompts, "tokens_each": point.new}
        return "batched_prefill", {**sizes, "seconds": seconds}
    total = point.new + point.cached
    if found.cached:
        # What the engine found, which may be less than what was put there.
        sizes = {"cached_tokens": found.cached, "new_tokens": total - found.cached}
        return "prefill_after_cached_prefix", {**sizes, "seconds": seconds}
    return "prefill", {"tokens": total, "seconds": seconds}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        data = None
    if not isinstance(data, dict):
        raise _foreign(f"{path} is there, and is no profile")
    return data


def _foreign(why: str) -> StartupError:
    return StartupError(StartupFault.SETTINGS_INVALID, why, hint="Name another file.")


def _taken(why: str) -> StartupError:
    hint = "Name another file, or add --again to measure from the beginning."
    return StartupError(StartupFault.SETTINGS_INVALID, why, hint=hint)
