"""Where an engine's KV blocks lie, and how its peers reach them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from baton.errors import BatonError, Reason
from kv_transfer.liveness import ProcessName
from kv_transfer.scratch import Area


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
    """All KV memory of one device of an engine, block by block."""

    regions: tuple[Region, ...]
    blocks: int
    block_tokens: int
    memory: str
    """NIXL's name of the kind of memory: DRAM or VRAM."""
    device: int
    fingerprint: str
    """Equal where bytes mean the same: shape, number format, instruction set."""
    layers: int = 1
    """Each has the same number of regions, one after the other."""
    rank: int = 0
    """Which device of its engine's this is."""
    ranks: int = 1
    """Devices that share the engine: its tensor-parallel size."""

    def descriptors(self) -> list[tuple[int, int, int]]:
        """(address, bytes, device) of each region's blocks, region by region."""
        return [
            (region.base + block * region.stride, region.size, self.device)
            for region in self.regions
            for block in range(self.blocks)
        ]

    def areas(self) -> list[tuple[int, int, int, str]]:
        """(address, bytes, device, nothing) of each region as a whole."""
        areas = (
            (region.base, (self.blocks - 1) * region.stride + region.size, self.device, "")
            for region in self.regions
        )
        return list(dict.fromkeys(areas))

    def indices(self, blocks: Sequence[int], layer: int, layers: int) -> list[int]:
        """Places of these blocks in `descriptors`, in every region of these layers."""
        each = len(self.regions) // self.layers
        regions = range(layer * each, (layer + layers) * each)
        return [region * self.blocks + block for region in regions for block in blocks]

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all regions."""
        return sum(region.size for region in self.regions)


@dataclass(frozen=True, slots=True)
class Blocks:
    """What one write moves: some layers of sources[i] into targets[i]."""

    sources: Sequence[int]
    targets: Sequence[int]
    layer: int
    layers: int

    def runs(self) -> int:
        """Pieces of memory per layer: neighbours on both sides are one."""
        pairs = list(zip(self.sources, self.targets, strict=True))
        following = itertools.pairwise(pairs)
        return 1 + sum((a + 1, b + 1) != after for (a, b), after in following)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a peer needs to write into the blocks of one device of this engine. A restarted engine
    is another one."""

    agent: str
    """Unique per engine; its ranks share it, since each knows only its equals of other engines."""
    metadata: bytes
    layout: Layout
    process: ProcessName
    """Whoever owns the agent: once it is dead, no write of its can land any more."""
    scratch: Area | None = None
    """Where the transport self-test may write."""
    others: tuple[Endpoint, ...] = ()
    """The engine's further ranks, in the endpoint that an engine publishes."""

    def of_rank(self, rank: int, ranks: int) -> Endpoint:
        """The rank's own endpoint. Raises BatonError CONFIG_MISMATCH for an engine of another
        tensor-parallel size: its devices hold other parts of each block."""
        if self.layout.ranks != ranks:
            raise BatonError(
                Reason.CONFIG_MISMATCH,
                f"tensor-parallel size is {self.layout.ranks} there and {ranks} here; Baton's "
                "connector joins equal ones: use kv_transfer.connector: vllm-nixl-pull",
            )
        for one in (self, *self.others):
            if one.layout.rank == rank:
                return one
        raise BatonError(Reason.CONFIG_MISMATCH, f"the peer's endpoint leaves out rank {rank}")


def joined(ranks: Mapping[int, Endpoint]) -> Endpoint:
    """What an engine publishes, of the endpoints of its ranks. Raises ValueError where one is
    missing."""
    first = ranks.get(0)
    if first is None or sorted(ranks) != list(range(first.layout.ranks)):
        raise ValueError(f"the endpoints of ranks {sorted(ranks)} are not those of a whole engine")
    return replace(first, others=tuple(ranks[rank] for rank in sorted(ranks) if rank))


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
    facts = ("fingerprint", "block_tokens", "memory", "layers", "ranks", "rank")
    for fact in facts:
        if getattr(mine, fact) != getattr(other, fact):
            raise BatonError(
                Reason.CONFIG_MISMATCH,
                f"KV {fact} is {getattr(other, fact)} there and {getattr(mine, fact)} here",
            )
    if [r.size for r in mine.regions] != [r.size for r in other.regions]:
        raise BatonError(Reason.CONFIG_MISMATCH, "KV blocks differ in size")
