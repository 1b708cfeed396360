"""`baton scale`: how many workers the pools have, by hand or by the scaling law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from baton.errors import BatonError, Reason
from baton.messages import Role
from cluster.scaler import Scaler


def parsed(words: Sequence[str]) -> dict[str, int]:
    """`prefill=3 decode=5` as counts. Raises BatonError for anything else."""
    found: dict[str, int] = {}
    for word in words:
        name, sign, count = word.partition("=")
        if name not in {role.value for role in Role} or not sign or not count.isdecimal():
            message = f"{word!r} is not understood; write prefill=N, decode=N, or both"
            raise BatonError(Reason.INVALID_REQUEST, message)
        found[name] = int(count)
    return found


def obey(scaler: Scaler, order: Mapping[str, Any]) -> dict[str, Any]:
    """Carries out an order; what is wanted now. Raises BatonError for counts out of bounds."""
    if order.get("auto"):
        row = scaler.set_auto()
    else:
        row = scaler.set_by_hand({Role(name): int(n) for name, n in dict(order["counts"]).items()})
    return {"prefill": row.prefill, "decode": row.decode, "mode": row.mode}


def as_lines(row: Mapping[str, Any] | None) -> Iterator[str]:
    """What a status page says about scaling, for people."""
    if row is None:
        return
    yield f"scaling: {row['mode']}, wanted prefill {row['prefill']}, decode {row['decode']}"
    yield from (f"  {text}" for text in row["why"])
    yield from (f"  {text}" for text in row["lately"][-3:])


def answer_text(answer: Mapping[str, Any]) -> str:
    """What `baton scale` prints."""
    counts = f"prefill {answer['prefill']}, decode {answer['decode']}"
    if answer["mode"] == "auto":
        return f"the scaling law decides from now on; wanted so far: {counts}"
    return f"wanted from now on: {counts}"
