"""Checksums of KV blocks, computed where the blocks lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_PRIME = 1_000_003
_KEEP = (1 << 63) - 1


class Sums:
    """Checksums over all regions of a block: position-dependent, so that swapped words show.

    `views` are the KV tensors as [blocks, bytes / 4] 32-bit integers, one per region.
    """

    def __init__(self, views: Sequence[torch.Tensor]) -> None:
        self._views = tuple(views)
        self._weights = tuple(
            torch.arange(1, view.shape[1] + 1, dtype=torch.int64, device=view.device) * 2 + 1
            for view in views
        )

    def of(self, blocks: Sequence[int]) -> tuple[int, ...]:
        """One number from 0 to 2^63 - 1 per block."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self._views[0].device)
        total = torch.zeros(len(blocks), dtype=torch.int64, device=index.device)
        for view, weights in zip(self._views, self._weights, strict=True):
            # Integers wrap around the same way on every device.
            total = total * _PRIME + (view[index].to(torch.int64) * weights).sum(dim=1)
        return tuple(value & _KEEP for value in total.tolist())


def views_of(tensors: Sequence[torch.Tensor], blocks: int) -> list[torch.Tensor]:
    """Tensors whose first dimension is the block, as rows of 32-bit integers.

    Raises ValueError where a block is not one run of whole words.
    """
    return [_words(tensor, blocks) for tensor in tensors]


def _words(tensor: torch.Tensor, blocks: int) -> Any:
    if tensor.shape[0] != blocks or not tensor[0].is_contiguous():
        raise ValueError(f"blocks of a KV tensor {tuple(tensor.shape)} are not contiguous")
    size = tensor[0].numel() * tensor.element_size()
    if size % 4 or tensor.stride(0) * tensor.element_size() % 4:
        raise ValueError(f"a KV block of {size} bytes is no row of 32-bit words")
    flat = tensor.flatten(1) if tensor.is_contiguous() else tensor.view(blocks, -1)
    return flat.view(torch.int32)
