"""Which layers of which positions have landed, as one number: of each layer in turn, one bit per
registered position."""

from __future__ import annotations

from kv_transfer.ticket.messages import Register, Written


def everything(register: Register, layers: int) -> int:
    """All bits."""
    return _bits(0, layers * len(register.blocks))


def area(register: Register, written: Written) -> int:
    """The bits that a notice names."""
    positions, row = len(register.blocks), _bits(written.first - register.first, written.count)
    layers = range(written.layer, written.layer + written.layers)
    return sum(row << layer * positions for layer in layers)


def _bits(start: int, count: int) -> int:
    return ((1 << count) - 1) << start
