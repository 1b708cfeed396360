"""Memory of an engine that belongs to no request: the transport self-test writes there.

Every agent registers such an area besides its KV blocks. A peer may write into it at any time, and
nobody ever reads what lies there; so a test touches no KV block, and needs no fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCRATCH_BYTES = 32 * 2**20
"""Enough that writing all of it takes longer than its own administration."""
_PIECES_MAX = 4096
"""Descriptors of one transfer, so that preparing them is no long turn either."""


@dataclass(frozen=True, slots=True)
class Area:
    """Where the scratch memory of one agent lies. Travels in its endpoint."""

    base: int
    size: int
    device: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One block as it is moved: the sizes of its pieces, one per region of the KV layout."""

    pieces: tuple[int, ...]

    @property
    def block_bytes(self) -> int:
        return sum(self.pieces)

    def blocks_in(self, area: Area) -> int:
        """Whole blocks that fit."""
        return area.size // self.block_bytes

    def room(self, about: int = SCRATCH_BYTES) -> int:
        """Bytes of an area of at most this size: whole blocks, at least one."""
        blocks = min(about // self.block_bytes, _PIECES_MAX // len(self.pieces))
        return max(1, blocks) * self.block_bytes

    def descriptors(self, area: Area, blocks: int) -> list[tuple[int, int, int]]:
        """(address, bytes, device) of the pieces, region by region as in a KV layout."""
        found, start = [], area.base
        for size in self.pieces:
            found += [(start + block * size, size, area.device) for block in range(blocks)]
            start += blocks * size
        return found

    def places(self, blocks: int, of: int, *, backwards: bool) -> list[int]:
        """Of an area for `of` blocks, where the pieces of the first (last) ones are listed."""
        chosen = range(of - 1, of - 1 - blocks, -1) if backwards else range(blocks)
        return [piece * of + block for piece in range(len(self.pieces)) for block in chosen]


class Scratch:
    """Scratch memory behind NIXL. Belongs to the thread that owns the agent.

    `memory` is NIXL's name of the kind of memory, DRAM or VRAM.
    """

    def __init__(self, nixl: Any, memory: str, device: int, size: int) -> None:
        self._nixl = nixl
        self._memory = memory
        self._held, base = _allocate(memory, device, size)
        self.area = Area(base, size, device)
        self._registered = nixl.register_memory([(base, size, device, "")], memory)

    def lane(self, peer: str, area: Area, shape: Shape) -> Lane:
        """A way to the scratch memory of a peer that the agent knows under this name."""
        return Lane(self._nixl, self._memory, (self.area, peer, area), shape)

    def close(self) -> None:
        """After all lanes."""
        self._nixl.deregister_memory(self._registered)


class Lane:
    """Prepared descriptors from one scratch area to another's. NIXL's own errors pass through."""

    def __init__(self, nixl: Any, memory: str, ends: tuple[Area, str, Area], shape: Shape) -> None:
        mine, peer, theirs = ends
        self._nixl = nixl
        self._shape = shape
        self.blocks = min(shape.blocks_in(mine), shape.blocks_in(theirs))
        """Most that one transfer can move."""
        here, there = (shape.descriptors(area, self.blocks) for area in (mine, theirs))
        self._local = nixl.prep_xfer_dlist("NIXL_INIT_AGENT", here, memory)
        self._remote = nixl.prep_xfer_dlist(peer, there, memory)

    def make(self, operation: str, blocks: int) -> Any:
        """Prepare a WRITE or READ of so many blocks; returns its handle, to be posted.

        The far end is walked backwards: NIXL joins what lies side by side on both ends, and the
        KV of a request mostly does not. Raises ValueError for more than `blocks`.
        """
        if blocks > self.blocks:
            raise ValueError(f"{blocks} blocks do not fit into a scratch of {self.blocks}")
        here = self._shape.places(blocks, self.blocks, backwards=False)
        there = self._shape.places(blocks, self.blocks, backwards=True)
        return self._nixl.make_prepped_xfer(operation, self._local, here, self._remote, there)

    def close(self) -> None:
        self._nixl.release_dlist_handle(self._local)
        self._nixl.release_dlist_handle(self._remote)


def _allocate(memory: str, device: int, size: int) -> tuple[Any, int]:
    """(what keeps the memory alive, its address). Every page has been touched."""
    if memory == "VRAM":
        import torch

        tensor = torch.ones(size, dtype=torch.uint8, device=f"cuda:{device}")
        # Another process reads it without asking this one's stream.
        torch.cuda.synchronize(device)
        return tensor, int(tensor.data_ptr())
    import numpy as np

    array: Any = np.ones(size, dtype=np.uint8)
    return array, int(array.ctypes.data)
