"""What the scaling law remembers: small, frozen, and JSON for a controller that restarts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DAY_S = 86_400.0
SLOTS = 96
"""Quarters of an hour."""


@dataclass(frozen=True, slots=True)
class Past:
    """The load of one pool, in busy workers: level, trend per second, and the shape of a day."""

    level: float = 0.0
    trend_per_s: float = 0.0
    noise: float = 0.1
    """Mean distance of single measurements from the level, over the root of the level: random
    arrivals have the same at every load. Until it is measured they are taken for random."""
    at_s: float = -1.0
    """When it was last seen; below 0 = never."""
    day: tuple[float, ...] = ()
    """Mean load per quarter of an hour, below 0 where unknown; empty until one has passed."""
    slot_sum: float = 0.0
    slot_count: int = 0


@dataclass(frozen=True, slots=True)
class PoolMemory:
    """One pool. Times are those of the controller's clock, below 0 = never."""

    past: Past = field(default_factory=Past)
    wanted: int = -1
    """What was said last, so that whoever is lost is replaced; below 0 = nothing yet."""
    ready: int = -1
    changed_s: float = -1.0
    """When the count of ready workers last changed: what was measured before is of another pool."""
    calm_since_s: float = -1.0
    """Since when one worker less would do."""
    removed_s: float = -1.0
    patience_s: float = 0.0
    """How long it has to be calm; grows when a removal has to be taken back."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything. The first is the default one."""

    prefill: PoolMemory = field(default_factory=PoolMemory)
    decode: PoolMemory = field(default_factory=PoolMemory)
    role_changed_s: float = -1.0
    busy_s: float = -1.0
    """When something last came or waited."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; `from_json` is its inverse."""
        return asdict(self)


def from_json(data: Mapping[str, Any]) -> Memory:
    """The memory of a checkpoint. Raises TypeError or KeyError for what is none."""
    pools = {name: _pool(data[name]) for name in ("prefill", "decode")}
    return Memory(**{**data, **pools})


def _pool(data: Mapping[str, Any]) -> PoolMemory:
    past = dict(data["past"])
    past["day"] = tuple(past["day"])
    return PoolMemory(**{**data, "past": Past(**past)})
