"""Names of prompt prefixes: one key per block, each covering everything before it.

Two prompts share a key exactly when they share model, LoRA, tenant salt and all tokens up to the
end of that block. Keys depend on nothing else, so that every router and worker, on any host and
after any restart, names the same prefix alike. The shell supplies token ids, or the block hashes
that a trace or an engine already has.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate

import xxhash

ROUTING_BLOCK_TOKENS = 512
"""The grain of routing keys; in the public traces one block is shared by everybody, two are not."""

_DROPPED_BITS = 4
"""Keys travel as 8 bytes and use 60 bits: CPython keeps those in 32 bytes, 64 bits in 48."""


def salt(model: str, lora: str = "", cache_salt: str = "") -> int:
    """Where the chain of keys starts; differs whenever KV must not be shared."""
    text = "\0".join(f"{len(part)}:{part}" for part in (model, lora, cache_salt))
    return _short(xxhash.xxh64_intdigest(text.encode()))


def tenant_salt(tenant: str, wanted: str = "") -> str:
    """The cache salt of a tenant's requests: nobody gets another tenant's, whatever is wanted.

    It is no secret: clients only ever choose `wanted`.
    """
    return hashlib.sha256(f"{len(tenant)}:{tenant}{wanted}".encode()).hexdigest()


def of_tokens(tokens: Sequence[int], block_tokens: int, start: int) -> tuple[int, ...]:
    """One key per full block of tokens; a rest that fills no block has none."""
    packed = array("I", tokens)
    if sys.byteorder == "big":
        packed.byteswap()
    data, step = memoryview(packed).cast("B"), block_tokens * packed.itemsize
    blocks = (data[at : at + step] for at in range(0, len(data) - step + 1, step))
    return _chain(blocks, start)


def of_hashes(hashes: Iterable[int], start: int) -> tuple[int, ...]:
    """One key per block of which only a hash is known, as in traces; any integer will do."""
    return _chain((h.to_bytes(16, "little", signed=True) for h in hashes), start)


def _chain(blocks: Iterable[bytes | memoryview], start: int) -> tuple[int, ...]:
    keys = accumulate(blocks, _next, initial=start)
    next(keys)
    return tuple(keys)


def _next(before: int, block: bytes | memoryview) -> int:
    return _short(xxhash.xxh64_intdigest(block, seed=before))


def _short(digest: int) -> int:
    return digest >> _DROPPED_BITS
