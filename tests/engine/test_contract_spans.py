"""Legs of an engine that dies are told. No engine runs here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.v1.engine.exceptions import EngineDeadError

from baton.errors import BatonError, Reason
from baton.spans import Span, SpanContext
from engine.core import EngineCore
from engine.leg_spans import LegSpans

HEADERS = {"traceparent": SpanContext(5, 6).traceparent}


class Dying:
    """In the place of vLLM's client: of an engine that may be dead."""

    dead = False

    async def add_request_async(self, _request: Any) -> None:
        if self.dead:
            raise EngineDeadError

    async def get_output_async(self) -> None:
        raise EngineDeadError


def leg(leg_id: str) -> Any:
    return SimpleNamespace(request_id=leg_id, trace_headers=HEADERS)


async def test_legs_that_die_with_their_engine_are_told() -> None:
    spans: list[Span] = []
    client: Any = Dying()
    facts: Any = None
    engine = EngineCore(client, facts, LegSpans(spans.append, "decode-0"))
    for leg_id in ("a.0.d", "b.0.s"):
        await engine.add(leg(leg_id))
    client.dead = True
    with pytest.raises(BatonError) as refused:
        await engine.add(leg("c.0.s"))
    assert refused.value.reason is Reason.ENGINE_FAILED
    assert [(one.attributes["baton.leg"], one.error) for one in spans] == [("c.0.s", "failed")]
    with pytest.raises(BatonError):
        await engine.step()
    assert [(one.attributes["baton.leg"], one.error) for one in spans[1:]] == [
        ("a.0.d", "failed"),
        ("b.0.s", "failed"),
    ]
