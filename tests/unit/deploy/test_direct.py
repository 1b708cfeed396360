"""How a worker's call to a client ends that takes nothing of its answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import deploy.direct as served
from baton.errors import BatonError, Reason


class _Text:
    logprobs = None

    async def next(self) -> Any:
        return SimpleNamespace(outputs=[], prompt_token_ids=[], num_cached_tokens=0, finished=False)


async def test_a_stalled_reader_is_not_told_of_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "STALL_S", 0.01)

    async def never(_data: bytes) -> None:
        await asyncio.Event().wait()

    call, stream = SimpleNamespace(write=never), SimpleNamespace(text=_Text())
    with pytest.raises(BatonError) as raised:
        await served._pass_on(stream, call)  # type: ignore[arg-type]
    assert raised.value.reason is Reason.WORKER_LOST
