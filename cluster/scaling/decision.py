"""What the scaling law says, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from baton.messages import Role
from cluster.scaling.memory import Memory


class Reason(StrEnum):
    """Why a pool has the size that is wanted. Values are labels of metrics."""

    STEADY = "steady"
    """Enough workers, and none too many."""
    LOAD = "load"
    FORECAST = "forecast"
    BACKLOG = "backlog"
    TTFT = "ttft"
    TPOT = "tpot"
    KV = "kv"
    TRANSFER = "transfer"
    FEWER = "fewer"
    """The survivors keep the promises."""
    ROLE_CHANGE = "role_change"
    BUDGET = "budget"
    """More would be wanted than there are GPUs for."""
    IDLE = "idle"
    """Nothing came for long: scaled to zero."""
    WOKEN = "woken"
    """Scaled from zero."""
    BLIND = "blind"
    """A measurement is missing or too old: nothing changes."""


@dataclass(frozen=True, slots=True)
class Why:
    """The reason for one pool: a code for metrics, a sentence for people."""

    role: Role
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers each pool should have, ready or starting. Role changes come first."""

    prefill: int
    decode: int
    to_decode: int
    """Prefill workers that become decode workers; `prefill` is already without them."""
    to_prefill: int
    why: tuple[Why, Why]
    """For prefill and for decode."""
    memory: Memory
