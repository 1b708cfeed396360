"""The comparison with one engine catches KV that is wrong by one block or by one layer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.legs import Pair, Spoil
from benchmarks.oracle import score
from tests.engine.conftest import Reference
from tests.engine.corrupting_connector import MARK


async def ask_spoiled(pair: Pair, reference: Reference, salt: str, spoil: Spoil | None) -> Any:
    """The long questions with spoiled handoffs. A salt of their own keeps caches clean."""
    asked = reference.long
    found = await asyncio.gather(
        *(pair.run(q.prompt, q.max_tokens, salt, spoil) for q in asked.questions)
    )
    return score(zip(asked.answers, found, strict=True))


def wrong_block(params: dict[str, Any]) -> None:
    """The last full block is another one."""
    (ids,) = params["remote_block_ids"]
    ids[-2] = ids[0]


def wrong_layer(params: dict[str, Any]) -> None:
    params[MARK] = 3


async def test_an_unspoiled_handoff_is_the_same(pair: Pair, reference: Reference) -> None:
    assert (await ask_spoiled(pair, reference, "clean", None)).same


@pytest.mark.parametrize("spoil", [wrong_block, wrong_layer], ids=lambda f: f.__name__)
async def test_spoiled_kv_is_caught(pair: Pair, reference: Reference, spoil: Spoil) -> None:
    found = await ask_spoiled(pair, reference, spoil.__name__, spoil)
    print(f"{spoil.__name__}: {len(found.wrong)} of {found.answers} wrong")
    assert not found.same
    assert len(found.wrong) > found.answers / 2
