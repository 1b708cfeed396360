"""What was measured of one engine, and its file format.

A profile is a JSON object:

    about                        text: hardware, versions, how it was measured
    model.kv_bytes_per_token     bytes of KV cache per token, all layers
    prefill                      [{tokens, seconds: [...]}]                   one prompt, nothing cached
    prefill_after_cached_prefix  [{cached_tokens, new_tokens, seconds: [...]}]            may be absent
    batched_prefill              [{prompts, tokens_each, seconds: [...]}]                 may be absent
    decode_step                  [{batch, context_tokens, seconds_per_step}]
    transfer                     [{op, block_bytes, GBps}], GB = 1e9 bytes                may be absent

Other keys are left alone. `seconds` holds repetitions; the model uses their median.
"""  # noqa: E501

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_Sample = TypeVar("_Sample")


class ProfileError(ValueError):
    """A profile that cannot be used. Names the entry that is wrong."""


@dataclass(frozen=True, slots=True)
class PrefillSample:
    """`prompts` prompts at once, each with `new` tokens to compute after `cached` ones."""

    new: int
    seconds: tuple[float, ...]
    cached: int = 0
    prompts: int = 1

    @property
    def median_s(self) -> float:
        """The middle of the repetitions."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class StepSample:
    """One decode step of `batch` requests with `context` tokens each."""

    batch: int
    context: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TransferSample:
    """The rate at which one NIXL operation moved blocks of one size."""

    op: str
    block_bytes: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The measured samples of one engine. Raises ProfileError when a model cannot be fitted."""

    about: str
    kv_bytes_per_token: int
    prefill: tuple[PrefillSample, ...]
    steps: tuple[StepSample, ...]
    transfers: tuple[TransferSample, ...] = ()

    def __post_init__(self) -> None:
        if self.kv_bytes_per_token < 1:
            raise ProfileError("model.kv_bytes_per_token has to be at least 1")
        lengths = {s.new for s in self.prefill if not s.cached and s.prompts == 1}
        if len(lengths) < 3:
            raise ProfileError("prefill: at least three lengths are needed")
        if len({(s.batch, s.context) for s in self.steps}) < 3:
            raise ProfileError("decode_step: at least three points are needed")


def load_profile(path: Path) -> Profile:
    """Reads a profile. Raises ProfileError, which names the file and the entry."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except ValueError as error:
        raise ProfileError(f"{path}: not JSON: {error}") from None
    try:
        return parse_profile(data)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from None


def parse_profile(data: object) -> Profile:
    """The profile that a JSON object describes. Raises ProfileError."""
    if not isinstance(data, dict):
        raise ProfileError("not a JSON object")
    model = data.get("model")
    if not isinstance(model, dict):
        raise ProfileError("model is missing")
    return Profile(
        about=str(data.get("about", "")),
        kv_bytes_per_token=_count(model, "kv_bytes_per_token", "model"),
        prefill=(
            *_rows(data, "prefill", _single),
            *_rows(data, "prefill_after_cached_prefix", _cached, needed=False),
            *_rows(data, "batched_prefill", _batched, needed=False),
        ),
        steps=_rows(data, "decode_step", _step),
        transfers=_transfers(data),
    )


def save_profile(profile: Profile, path: Path) -> None:
    """Writes measured samples in the format above."""
    path.write_text(json.dumps(as_json(profile), indent=1) + "\n", encoding="utf-8")


def as_json(profile: Profile) -> dict[str, Any]:
    """The JSON object of a profile; `parse_profile` is its inverse."""
    single = [s for s in profile.prefill if s.prompts == 1]
    return {
        "about": profile.about,
        "model": {"kv_bytes_per_token": profile.kv_bytes_per_token},
        "prefill": [{"tokens": s.new, "seconds": list(s.seconds)} for s in single if not s.cached],
        "prefill_after_cached_prefix": [
            {"cached_tokens": s.cached, "new_tokens": s.new, "seconds": list(s.seconds)}
            for s in single
            if s.cached
        ],
        "batched_prefill": [
            {"prompts": s.prompts, "tokens_each": s.new, "seconds": list(s.seconds)}
            for s in profile.prefill
            if s.prompts > 1
        ],
        "decode_step": [
            {"batch": s.batch, "context_tokens": s.context, "seconds_per_step": s.seconds}
            for s in profile.steps
        ],
        "transfer": [
            {"op": t.op, "block_bytes": t.block_bytes, "GBps": t.bytes_per_s / 1e9}
            for t in profile.transfers
        ],
    }


# --- entries --------------------------------------------------------------------------------------


def _rows(
    data: Mapping[str, Any],
    name: str,
    parse: Callable[[Mapping[str, Any], str], _Sample],
    *,
    needed: bool = True,
) -> tuple[_Sample, ...]:
    rows = data.get(name, None if needed else [])
    if not isinstance(rows, list) or (needed and not rows):
        raise ProfileError(f"{name} has to be a list of samples")
    return tuple(parse(row, where) for row, where in _named(rows, name))


def _named(rows: list[Any], name: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ProfileError(f"{name}[{index}] is not an object")
        yield row, f"{name}[{index}]"


def _single(row: Mapping[str, Any], where: str) -> PrefillSample:
    return PrefillSample(_count(row, "tokens", where), _seconds(row, where))


def _cached(row: Mapping[str, Any], where: str) -> PrefillSample:
    cached = _count(row, "cached_tokens", where)
    return PrefillSample(_count(row, "new_tokens", where), _seconds(row, where), cached)


def _batched(row: Mapping[str, Any], where: str) -> PrefillSample:
    prompts = _count(row, "prompts", where)
    return PrefillSample(_count(row, "tokens_each", where), _seconds(row, where), 0, prompts)


def _step(row: Mapping[str, Any], where: str) -> StepSample:
    return StepSample(
        _count(row, "batch", where),
        _count(row, "context_tokens", where),
        _positive(row.get("seconds_per_step"), f"{where}.seconds_per_step"),
    )


def _transfers(data: Mapping[str, Any]) -> tuple[TransferSample, ...]:
    if "transfer" in data or "nixl_same_gpu_two_processes" not in data:
        return _rows(data, "transfer", _transfer, needed=False)
    # Where profiles began: rows beside a text, some with an allocator that rules out CUDA IPC.
    nested = data["nixl_same_gpu_two_processes"]
    rows = _rows(nested if isinstance(nested, dict) else {}, "rows", lambda row, at: (row, at))
    return tuple(_transfer(row, at) for row, at in rows if row.get("alloc") != "expandable")


def _transfer(row: Mapping[str, Any], where: str) -> TransferSample:
    rate = _positive(row.get("GBps"), f"{where}.GBps") * 1e9
    return TransferSample(str(row.get("op", "")), _count(row, "block_bytes", where), rate)


def _count(row: Mapping[str, Any], name: str, where: str) -> int:
    value = row.get(name)
    if type(value) is not int or value < 1:
        raise ProfileError(f"{where}.{name} has to be a whole number of at least 1: {value!r}")
    return value


def _seconds(row: Mapping[str, Any], where: str) -> tuple[float, ...]:
    values = row.get("seconds")
    if not isinstance(values, list) or not values:
        raise ProfileError(f"{where}.seconds has to be a list of times")
    return tuple(_positive(value, f"{where}.seconds") for value in values)


def _positive(value: object, where: str) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not (usable and math.isfinite(value) and value > 0):  # type: ignore[arg-type,operator]
        raise ProfileError(f"{where} has to be a finite number above 0: {value!r}")
    return float(value)  # type: ignore[arg-type]
