"""Where an engine's KV blocks lie, and how its peers reach them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from baton.errors import BatonError, Reason
from kv_transfer.liveness import ProcessName


@dataclass(frozen=True, slots=True)
class Region:
    """One layer's blocks (or its K or its V blocks): block i lies at base + i * stride."""

    base: int
    stride: int
    """Bytes from one block to the next."""
    size: int
    """Bytes of one block in this region."""


@dataclass(frozen=True, slots=True)
class Layout:
    """All KV memory of one engine, block by block."""

    regions: tuple[Region, ...]
    blocks: int
    block_tokens: int
    memory: str
    """NIXL's name of the kind of memory: DRAM or VRAM."""
    device: int
    fingerprint: str
    """Equal where bytes mean the same: shape, number format, instruction set."""

    def descriptors(self) -> list[tuple[int, int, int]]:
        """(address, bytes, device) of each region's blocks, region by region."""
        return [
            (region.base + block * region.stride, region.size, self.device)
            for region in self.regions
            for block in range(self.blocks)
        ]

    def indices(self, blocks: Sequence[int]) -> list[int]:
        """Places of these blocks in `descriptors`, in every region."""
        return [
            region * self.blocks + block for region in range(len(self.regions)) for block in blocks
        ]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all regions."""
        return sum(region.size for region in self.regions)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a peer needs to write into this engine's blocks. A restarted engine is another one."""

    agent: str
    """Unique per engine process."""
    metadata: bytes
    layout: Layout
    process: ProcessName
    """Whoever owns the agent: once it is dead, no write of its can land any more."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Endpoint)


def encode_endpoint(endpoint: Endpoint) -> bytes:
    return _encoder.encode(endpoint)


def decode_endpoint(data: bytes) -> Endpoint:
    """Raises BatonError TRANSFER_FAILED for what is no endpoint."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise BatonError(
            Reason.TRANSFER_FAILED, f"unreadable transfer endpoint: {error}"
        ) from error


def check_pair(mine: Layout, other: Layout) -> None:
    """Raises BatonError CONFIG_MISMATCH when blocks of the two engines are not interchangeable."""
    facts = ("fingerprint", "block_tokens", "memory")
    for fact in facts:
        if getattr(mine, fact) != getattr(other, fact):
            raise BatonError(
                Reason.CONFIG_MISMATCH,
                f"KV {fact} is {getattr(other, fact)} there and {getattr(mine, fact)} here",
            )
    if [r.size for r in mine.regions] != [r.size for r in other.regions]:
        raise BatonError(Reason.CONFIG_MISMATCH, "KV blocks differ in size")
