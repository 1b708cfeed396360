"""Workers over fake engines, and the messages a router sends them."""

from __future__ import annotations

from baton.clock import ManualClock
from baton.errors import BatonError
from baton.ids import WorkerId
from baton.messages import Dispatch, Role, WorkerInfo
from baton.wire import worker_pb2 as wire
from decode_worker import DecodeRole, SoloRole
from engine.limits import Limits
from engine.worker import Worker
from prefill_worker import PrefillRole
from tests.fakes.engine import FakeEngine
from tests.fakes.handoff import FakeHandoff

LIMITS = Limits(queued_requests_max=4, retry_after_s=2.5, silence_timeout_s=60.0)
HANDED = b'{"blocks":[1]}'


def roles() -> dict[int, PrefillRole | DecodeRole | SoloRole]:
    """All kinds of legs."""
    handoff = FakeHandoff()
    return {
        wire.LEG_PREFILL: PrefillRole(handoff),
        wire.LEG_DECODE: DecodeRole(handoff),
        wire.LEG_SOLO: SoloRole(),
    }


class House:
    """A worker, its engine, its clock, and the failures it told of."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.engine = FakeEngine()
        self.clock = ManualClock(100.0)
        self.failures: list[BatonError] = []
        self.worker = Worker(self.engine, roles(), limits, self.clock, self.failures.append)


def solo(leg_id: str, prompt_tokens: int = 10, payload: bytes = b"request") -> wire.Submit:
    return wire.Submit(
        leg_id=leg_id, kind=wire.LEG_SOLO, request=[payload], prompt_tokens=prompt_tokens
    )


def prefill(leg_id: str, prompt_tokens: int = 10) -> wire.Submit:
    return wire.Submit(
        leg_id=leg_id,
        kind=wire.LEG_PREFILL,
        request=[b"request"],
        ticket=wire.Ticket(ticket_id=f"ticket of {leg_id}", epoch=1, deadline_s=30),
        prompt_tokens=prompt_tokens,
    )


def decode(leg_id: str, handed: bytes = HANDED, prompt_tokens: int = 10) -> wire.Submit:
    return wire.Submit(
        leg_id=leg_id,
        kind=wire.LEG_DECODE,
        request=[b"request"],
        ticket=wire.Ticket(ticket_id="ticket", epoch=1, deadline_s=30, handed=handed),
        prompt_tokens=prompt_tokens,
    )


def info(digest: str = "digest") -> WorkerInfo:
    return WorkerInfo(
        worker_id=WorkerId("decode-0"),
        incarnation=3,
        role=Role.DECODE,
        address="127.0.0.1:1",
        config_digest=digest,
        connector="fake",
        dispatch=Dispatch.SEQUENTIAL,
        served_model="demo",
        max_model_len_tokens=1000,
        block_size_tokens=128,
        kv_blocks=64,
        dtype="float32",
        device="cpu",
        vllm_version="0.32.0",
        pid=1,
        engine_pid=4711,
    )
