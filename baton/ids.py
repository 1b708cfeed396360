"""Names of things: requests, workers, routers, and the legs that engines see.

An engine never sees a client's request id. It sees a leg id, `request.attempt.leg`, which is never
used twice: an aborted leg can linger in a scheduler, and a second one of the same name would kill
the engine. This file makes no ids; randomness is the caller's.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

RequestId = NewType("RequestId", str)
REQUEST_ID_CHARS_MAX = 256
"""Of a request's name, as its front end calls it."""
WorkerId = NewType("WorkerId", str)
RouterId = NewType("RouterId", str)
# Counts the incarnations of one worker; a restarted worker has a higher epoch.
Epoch = NewType("Epoch", int)


class Leg(StrEnum):
    """Which part of a request an engine runs."""

    PREFILL = "p"
    DECODE = "d"
    SOLO = "s"


@dataclass(frozen=True, slots=True)
class LegId:
    """One leg of one attempt of one request. `attempt` counts from 0.

    Raises ValueError for an empty request id or a negative attempt.
    """

    request: RequestId
    attempt: int
    leg: Leg

    def __post_init__(self) -> None:
        if not self.request or self.attempt < 0:
            raise ValueError(f"not a leg: request {self.request!r}, attempt {self.attempt}")

    def __str__(self) -> str:
        return f"{self.request}.{self.attempt}.{self.leg.value}"


def parse_leg_id(text: str) -> LegId:
    """The leg that `str(leg_id)` named; only that exact form is read. Raises ValueError."""
    # From the right, because a client's request id may itself contain dots.
    request, attempt, leg = _three_parts(text)
    parsed = LegId(RequestId(request), int(attempt), Leg(leg))
    if str(parsed) != text:
        raise ValueError(f"not a leg id: {text!r}")
    return parsed


def _three_parts(text: str) -> tuple[str, str, str]:
    parts = text.rsplit(".", 2)
    if len(parts) != 3 or not parts[1].isdecimal():
        raise ValueError(f"not a leg id: {text!r}")
    return parts[0], parts[1], parts[2]


def config_digest(config: Mapping[str, object]) -> str:
    """16 hex digits that are equal for equal configurations, whatever the order of their keys.

    Values are what JSON can hold. Raises TypeError for others, ValueError for NaN and infinity.
    """
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def router_digest(settings: Mapping[str, object], workers: str) -> str:
    """What a router runs with: all settings, and the configuration digest of its workers, which
    may change without them, as a model in its folder does. Raises as `config_digest`."""
    return config_digest({"settings": settings, "workers": workers})
