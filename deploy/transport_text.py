"""What the transport test found, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.transport import Found, Plan, Row
from kv_transfer.self_test import Verdict

_MEMORY = {"DRAM": "host memory", "VRAM": "GPU memory"}
_COLOURS = {Verdict.OK: "green", Verdict.SLOW: "yellow"}


def as_json(plan: Plan, found: list[Found]) -> str:
    """One JSON object."""
    return json.dumps(
        {
            "block_bytes": sum(plan.pieces),
            "pieces": len(plan.pieces),
            "device": plan.device,
            "verdict": found[0].verdict.value,
            "memory": [_json(each) for each in found],
        }
    )


def as_text(plan: Plan, found: list[Found]) -> RenderableType:
    """A small table for each kind of memory."""
    pieces = f"{len(plan.pieces)} pieces of {size(plan.pieces[0])}"
    head = Text(f"one block: {size(sum(plan.pieces))}, {pieces}")
    return Group(head, *(part for each in found for part in _text(each)))


def size(count: int) -> str:
    """Bytes as people write them."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= scale:
            return f"{count / scale:.4g} {unit}"
    return f"{count} bytes"


def _json(found: Found) -> dict[str, Any]:
    return {
        "memory": found.memory,
        "verdict": found.verdict.value,
        "why": found.why,
        "notes": list(found.notes),
        "operations": [_row_json(row) for row in found.rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "operation": row.operation,
        "transports": list(row.carrier.transports) if row.carrier else [],
        "how": row.carrier.how if row.carrier else None,
        "gb_per_s": {shape: round(rate, 4) for shape, rate in row.gb_per_s.items()},
        "block_ms_p50": round(row.latency_s * 1e3, 4),
    }


def _text(found: Found) -> list[RenderableType]:
    verdict = Text(f"{_MEMORY[found.memory]}: {found.verdict.value}. {found.why}")
    verdict.stylize(_COLOURS.get(found.verdict, "red"), 0, len(_MEMORY[found.memory]))
    notes = [Text(f"  UCX: {note}") for note in found.notes]
    return [Text(), *([_table(found)] if found.rows else []), verdict, *notes]


def _table(found: Found) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    shapes = list(found.rows[0].gb_per_s)
    table.add_column("GB/s")
    for shape in shapes:
        table.add_column(shape, justify="right")
    for column in ("one block p50", "transport", "how"):
        table.add_column(column, justify="right" if column.startswith("one") else "left")
    for row in found.rows:
        table.add_row(*_cells(row, shapes))
    return table


def _cells(row: Row, shapes: list[str]) -> list[str]:
    rates = [f"{row.gb_per_s[shape]:.3g}" for shape in shapes]
    names = ", ".join(row.carrier.transports) if row.carrier else "unknown"
    how = row.carrier.how if row.carrier else ""
    return [row.operation, *rates, f"{row.latency_s * 1e3:.3g} ms", names, how]
