"""Hand-made ends of the heart's ports: links that record, a front end that obeys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from baton.clock import ManualClock
from baton.errors import BatonError
from baton.ids import RequestId, RouterId, WorkerId
from baton.messages import (
    ClusterView,
    Dispatch,
    Member,
    Role,
    WorkerInfo,
    WorkerState,
)
from baton.settings import Settings
from baton.wire import worker_pb2 as pb
from router.heart import Heart
from router.metrics import RouterMetrics
from router.ports import EngineRequest
from router.wire import Identity

DIGEST = "digest-1"


class FakeLink:
    """A link that keeps what was sent."""

    def __init__(self, info: WorkerInfo) -> None:
        self.info = info
        self.sent: list[pb.RouterMessage] = []
        self.closed = False

    def send(self, message: pb.RouterMessage) -> None:
        self.sent.append(message)

    async def aclose(self) -> None:
        self.closed = True

    @property
    def submits(self) -> list[pb.Submit]:
        return [m.submit for m in self.sent if m.WhichOneof("message") == "submit"]

    @property
    def probes(self) -> list[pb.Probe]:
        return [m.probe for m in self.sent if m.WhichOneof("message") == "probe"]

    @property
    def resyncs(self) -> int:
        return sum(m.WhichOneof("message") == "resync" for m in self.sent)

    @property
    def aborts(self) -> list[str]:
        return [leg for m in self.sent for leg in m.abort.leg_ids]


class FakeFront:
    """Reads a frame's first buffer as the ids of legs that finish, and records the rest."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, BatonError]] = []
        self.delivered: list[tuple[Sequence[bytes], dict[str, RequestId]]] = []
        self.tokens: dict[str, list[int]] = {}
        """What each client has, by request."""
        self.meanwhile: Callable[[], None] = lambda: None
        self.on_fail: Callable[[], None] = lambda: None

    def deliver(self, buffers: Sequence[bytes], requests: dict[str, RequestId]) -> list[RequestId]:
        self.delivered.append((buffers, requests))
        self.meanwhile()
        return [requests[leg] for leg in buffers[0].decode().split() if leg in requests]

    def sent(self, request_id: RequestId) -> list[int]:
        return self.tokens.get(request_id, [])

    def counter(self, request_id: RequestId) -> Callable[[], int]:
        return lambda: len(self.tokens.get(request_id, []))

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        self.failed.append((request_id, error))
        self.on_fail()

    @property
    def reasons(self) -> dict[str, str]:
        assert len({r for r, _ in self.failed}) == len(self.failed), "a request failed twice"
        return {request_id: error.reason.value for request_id, error in self.failed}


def info(name: str, role: Role, **facts) -> WorkerInfo:
    given = {
        "incarnation": 1,
        "address": f"{name}:1",
        "config_digest": DIGEST,
        "dispatch": Dispatch.SEQUENTIAL,
        "kv_blocks": 10,
        **facts,
    }
    return WorkerInfo(
        worker_id=WorkerId(name),
        role=role,
        connector="fake",
        served_model="m",
        max_model_len_tokens=100,
        block_size_tokens=16,
        dtype="float32",
        device="cpu",
        vllm_version="0",
        pid=1,
        engine_pid=2,
        **given,
    )


def member(one: WorkerInfo, state: WorkerState = WorkerState.READY) -> Member:
    return Member(one.worker_id, one.role, state, one)


class Scene:
    """A heart with fake links and a fake front end. `frame` and `lose` speak for workers."""

    def __init__(self, settings: Settings) -> None:
        self.clock = ManualClock(100.0)
        self.metrics = RouterMetrics()
        self.front = FakeFront()
        self.links: dict[str, FakeLink] = {}
        self.version = 0
        identity = Identity(RouterId("router-0"), DIGEST)
        self.heart = Heart(identity, settings, self.clock, self.metrics, self._connect)
        self.heart.attach(self.front)

    def _connect(self, one: WorkerInfo, events: object) -> FakeLink:
        assert events is self.heart
        self.links[one.worker_id] = FakeLink(one)
        return self.links[one.worker_id]

    def view(self, *members: Member) -> None:
        self.version += 1
        self.heart.set_view(ClusterView(self.version, members))

    def up(self, *infos: WorkerInfo) -> None:
        """These workers are the cluster, ready and connected."""
        self.view(*map(member, infos))
        for one in infos:
            self.frame(one.worker_id)

    def frame(
        self, worker: str, *, done: str = "", prefilled=(), ended=(), news=None, **load
    ) -> None:
        """A frame; `done` names the legs whose outputs in it are their last, `news` are fields."""
        self.heart.on_frame(
            WorkerId(worker),
            pb.StepFrame(
                outputs=[done.encode()] if done else [],
                load=pb.Load(**load),
                prefilled=[pb.Prefilled(leg_id=leg, handed=b"kv") for leg in prefilled],
                ended=[
                    pb.Ended(leg_id=leg, reason=reason, message="why", retry_after_s=wait)
                    for leg, reason, wait in ended
                ],
                **(news or {}),
            ),
        )

    def lose(self, worker: str) -> None:
        self.heart.on_link_lost(WorkerId(worker), "gone")

    def submit(self, name: str = "r", **facts) -> None:
        facts = {"payload": (b"x",), "prompt_tokens": 10, "max_tokens": 5, **facts}
        self.heart.submit(EngineRequest(RequestId(name), **facts))

    def sample(self, metric: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric, labels)


def refused(call, *args) -> BatonError:
    """The error with which the call refuses."""
    with pytest.raises(BatonError) as caught:
        call(*args)
    return caught.value


P, D, D2 = info("p", Role.PREFILL), info("d", Role.DECODE), info("d2", Role.DECODE)
