"""Why a request went where it went, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_PREFILL = ("worker", "cached tokens", "queue ms", "TTFT ms", "cost ms")
_DECODE = ("worker", "TPOT ms", "transfer ms", "room tokens")


def as_text(plans: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Each plan made for a request, in order."""
    return Group(*(part for plan in plans for part in _plan(plan)))


def _plan(plan: Mapping[str, Any]) -> list[RenderableType]:
    head = f"request {plan['request_id']}: {plan['phase']}, {plan['reason']}"
    way = f"  prefill {plan['prefill'] or 'on the decode worker'}, decode {plan['decode']}"
    why = plan["why"]
    found: list[RenderableType] = [Text(head, style="bold"), Text(way)]
    return found if why is None else [*found, *_why(why)]


def _why(why: Mapping[str, Any]) -> list[RenderableType]:
    found: list[RenderableType] = [Text(f"  {line}") for line in _facts(why)]
    if (prefill := why["prefill"]) is not None:
        found += [Text(f"  {line}") for line in _prefill(prefill)]
        found.append(_weighed(prefill))
    if (decode := why["decode"]) is not None:
        found += [Text(f"  decode: {decode['why']}"), _decoders(decode)]
    return found


def _facts(why: Mapping[str, Any]) -> list[str]:
    key = f"key of {why['key_tokens']} tokens, {why['key_share']:.1%} of recent traffic"
    homes = ", ".join(why["homes"]) or "none"
    found = [f"{why['prompt_tokens']} prompt tokens; {key}; homes: {homes}"]
    for name in ("apart", "whole"):
        if (forecast := why[name]) is not None:
            times = f"TTFT {_ms(forecast['ttft_s'])} ms, TPOT {_ms(forecast['tpot_s'])} ms"
            found.append(f"{name}: {times}")
    return [*found, *why["refused"]]


def _prefill(part: Mapping[str, Any]) -> list[str]:
    view = "caches known" if part["fresh"] else "caches guessed"
    waited = f"waited {_ms(part['waited_s'])} ms here"
    found = [f"prefill: {part['why']} ({view}, price {part['price']:.2f}, {waited})"]
    if part["asked"]:
        found.append(f"asked: {', '.join(part['asked'])}")
    return found


def _weighed(part: Mapping[str, Any]) -> Table:
    table = _table(_PREFILL)
    for one in part["candidates"]:
        times = (_ms(one[name]) for name in ("queue_s", "ttft_s", "cost_s"))
        worker = _marked(one["worker_id"], part["worker_id"])
        table.add_row(worker, str(one["cached_tokens"]), *times)
    return table


def _decoders(choice: Mapping[str, Any]) -> Table:
    table = _table(_DECODE)
    for one in choice["candidates"]:
        worker = _marked(one["worker_id"], choice["worker_id"])
        table.add_row(worker, _ms(one["tpot_s"]), _ms(one["transfer_s"]), str(one["room_tokens"]))
    return table


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=True)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _marked(worker: str, chosen: str) -> str:
    return f"* {worker}" if worker == chosen else f"  {worker}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"
