"""Checksums of KV blocks, computed where the blocks lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_PRIME = 1_000_003
_KEEP = (1 << 63) - 1


class Sums:
    """Checksums over regions of a block: position-dependent, so that swapped words show.

    `views` are the KV tensors as [blocks, bytes / 4] 32-bit integers, one per region; each layer
    has the same number of regions.
    """

    def __init__(self, views: Sequence[torch.Tensor], layers: int = 1) -> None:
        self._views = tuple(views)
        self._each = len(self._views) // layers
        self._weights = tuple(
            torch.arange(1, view.shape[1] + 1, dtype=torch.int64, device=view.device) * 2 + 1
            for view in views
        )

    def of(self, blocks: Sequence[int], layer: int, layers: int) -> tuple[int, ...]:
        """One number from 0 to 2^63 - 1 per block, over some of its layers."""
        regions = slice(layer * self._each, (layer + layers) * self._each)
        index = torch.tensor(blocks, dtype=torch.int64, device=self._views[0].device)
        total = torch.zeros(len(blocks), dtype=torch.int64, device=index.device)
        for view, weights in zip(self._views[regions], self._weights[regions], strict=True):
            # Integers wrap around the same way on every device.
            total = total * _PRIME + (view[index].to(torch.int64) * weights).sum(dim=1)
        return tuple(value & _KEEP for value in total.tolist())


def views_of(tensors: Sequence[torch.Tensor], blocks: int) -> list[torch.Tensor]:
    """Tensors whose first dimension is the block, as rows of 32-bit integers.

    Raises ValueError where a block is not one run of whole words.
    """
    return [_words(tensor, blocks) for tensor in tensors]


def _words(tensor: torch.Tensor, blocks: int) -> Any:
    """The block's memory as it lies there: heads may come before tokens in it."""
    block = tensor[0]
    extent = 1 + sum(
        (size - 1) * step for size, step in zip(block.shape, block.stride(), strict=True)
    )
    if tensor.shape[0] != blocks or extent != block.numel():
        raise ValueError(f"blocks of a KV tensor {tuple(tensor.shape)} are not contiguous")
    size, step = (n * tensor.element_size() for n in (block.numel(), tensor.stride(0)))
    start = tensor.storage_offset() * tensor.element_size()
    if size % 4 or step % 4 or start % 4:
        raise ValueError(f"a KV block of {size} bytes is no row of 32-bit words")
    words = torch.empty(0, dtype=torch.int32, device=tensor.device)
    return words.set_(tensor.untyped_storage(), start // 4, (blocks, size // 4), (step // 4, 1))
