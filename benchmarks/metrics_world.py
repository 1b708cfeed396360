"""Routers without a cluster, for `benchmarks.metrics_cost`: their workers are played."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.serial_utils import MsgpackEncoder

from baton.clock import MonotonicClock
from baton.errors import Reason
from baton.ids import RequestId, RouterId, WorkerId
from baton.messages import ClusterView, Dispatch, Member, Role, WorkerInfo, WorkerState
from baton.settings import Settings
from baton.spans import SpanContext
from baton.wire import worker_pb2 as pb
from deploy.model import resolved, served_name
from router.attainment import PROMISES, Ending, Verdict
from router.caller import Caller
from router.heart import Heart
from router.metrics import RouterMetrics
from router.ports import EngineRequest
from router.wire import Identity, LinkEvents

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
WORKERS = 32
"""Of each role."""
TENANTS, CLASSES = 100, 15
TRACE = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
_BOUNDS_S = tuple(0.001 * 2**n for n in range(14))
_REASONS = ("prefill_lost", "write_failed", "deadline", "aborted", "checksum")
_STATES = ("waiting", "streaming", "closing", "fenced")


def tenants() -> list[str]:
    """All of them; the metrics have a place for each, and none over."""
    return ["default", *(f"tenant-{n}" for n in range(TENANTS - 1))]


def settings() -> Settings:
    """As many tenants and classes as are told apart."""
    classes: dict[str, Any] = {f"class-{n}": {"ttft_s": 1.0 + n} for n in range(CLASSES)}
    by_tenant = {name: {"slo_class": f"class-{n % 15}"} for n, name in enumerate(tenants())}
    chosen = {
        "router": {"disaggregate": "always", "ask": "never"},
        "admission": {"shed_at": 0.0, "tenants": by_tenant},
        "slo": {"classes": classes},
    }
    return resolved(Settings.model_validate(chosen))


def scope_of(number: int) -> dict[str, Any]:
    """A streamed completion, as an ASGI server tells of it: by one tenant after the other, each
    within a trace."""
    every = tenants()
    headers = {
        b"content-type": b"application/json",
        b"x-baton-tenant": every[number % len(every)].encode(),
        b"traceparent": TRACE.traceparent.encode(),
    }
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/completions",
        "raw_path": b"/v1/completions",
        "query_string": b"",
        "root_path": "",
        "headers": list(headers.items()),
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
    }


class Link:
    """To one played worker: keeps the legs it was sent."""

    def __init__(self, info: WorkerInfo) -> None:
        self.info = info
        self.prompts: list[str] = []
        self.answers: dict[str, int] = {}
        """Tokens so far, by leg."""

    def send(self, message: pb.RouterMessage) -> None:
        if message.WhichOneof("message") != "submit":
            return
        leg_id = message.submit.leg_id
        if message.submit.kind == pb.LEG_PREFILL:
            self.prompts.append(leg_id)
        else:
            self.answers[leg_id] = 0

    def aclose(self) -> Coroutine[Any, Any, None]:
        return _nothing()


async def _nothing() -> None: ...


class Played:
    """A router, and its workers' side of the links. `attach` a front end to `heart`, then `up`."""

    def __init__(self, chosen: Settings, workers: int) -> None:
        self.metrics = RouterMetrics()
        self.links: dict[str, Link] = {}
        self._clock = MonotonicClock()
        self._encoder = MsgpackEncoder()
        self._workers = workers
        self._model = served_name(chosen)
        identity = Identity(RouterId("router"), "digest")
        self.heart = Heart(identity, chosen, self._clock, self.metrics, self._connect)

    def up(self) -> None:
        """So many workers of each role, which say what work costs them."""
        names = [(role, number) for role in Role for number in range(self._workers)]
        infos = [_info(role, number, self._model) for role, number in names]
        members = tuple(Member(i.worker_id, i.role, WorkerState.READY, i) for i in infos)
        self.heart.set_view(ClusterView(1, members))
        fit = pb.Fit(coefficients=[0.01, 1e-4, 1e-9], samples=50, error=0.05)
        transfer = pb.Fit(coefficients=[0.001, 1e-6], samples=50, error=0.05)
        costs = pb.Costs(prefill=fit, decode=fit, transfer=transfer)
        for info in infos:
            self.frame(info.worker_id, costs=costs, cache=pb.CacheDelta(number=1, full=True))

    def frame(self, worker: str, **news: Any) -> None:
        """One frame of a worker."""
        load = pb.Load(running=8, waiting=1, kv_used=0.5, queued_prompt_tokens=2048, steps=9)
        self.heart.on_frame(WorkerId(worker), pb.StepFrame(load=load, **news))

    def compute_prompts(self) -> None:
        """All prompts are computed, all first tokens there."""
        for name, link in self.links.items():
            legs = [*link.prompts, *link.answers]
            link.prompts.clear()
            if legs:
                self.frame(name, prefilled=[pb.Prefilled(leg_id=leg) for leg in legs])

    def step(self, tokens_max: int) -> None:
        """One more token of each answer; the last one ends it."""
        for name, link in self.links.items():
            if not link.answers:
                continue
            outputs = []
            for leg, tokens in list(link.answers.items()):
                link.answers[leg] = tokens + 1
                last = tokens + 1 == tokens_max
                reason = FinishReason.LENGTH if last else None
                outputs.append(EngineCoreOutput(leg, [20 + tokens], finish_reason=reason))
                if last:
                    del link.answers[leg]
            step = EngineCoreOutputs(outputs=outputs, timestamp=1.0)
            self.frame(name, outputs=[bytes(one) for one in self._encoder.encode(step)])

    def _connect(self, info: WorkerInfo, _events: LinkEvents) -> Link:
        return self.links.setdefault(info.worker_id, Link(info))


def _info(role: Role, number: int, model: str) -> WorkerInfo:
    name = f"{role.value}-{number}"
    return WorkerInfo(
        worker_id=WorkerId(name),
        incarnation=1,
        role=role,
        address=f"{name}.example:50051",
        config_digest="digest",
        connector="baton",
        dispatch=Dispatch.CONCURRENT,
        served_model=model,
        max_model_len_tokens=8192,
        block_size_tokens=16,
        kv_blocks=100_000,
        dtype="bfloat16",
        device="cuda",
        vllm_version="0",
        pid=1,
        engine_pid=2,
        transfer_endpoint=b"x",
        transfer_agent=f"agent-{name}",
    )


# --- without metrics ------------------------------------------------------------------------------


class _Nothing:
    """In the place of the router's own metrics: takes every call, does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _ignore

    def set(self, *_args: object) -> None: ...


def _ignore(*_args: object, **_more: object) -> None: ...


def without_metrics(played: Played) -> None:
    """The same router, but nothing is counted: only what scaling is told stays."""
    nothing: Any = _Nothing()
    nothing.inflight = nothing.queued = _Nothing()
    for name in RouterMetrics.__dict__:
        if not name.startswith("_"):
            setattr(played.metrics, name, _ignore)
    for gauge in ("inflight", "queued"):
        setattr(played.metrics, gauge, nothing)
    ledger = played.heart._ledger  # noqa: SLF001
    ledger.splits = nothing
    ledger._keeping._slo = nothing  # noqa: SLF001


# --- a router with a past -------------------------------------------------------------------------


class Deaf:
    """A front end of which nothing is wanted."""

    def deliver(self, _buffers: Sequence[bytes], _ids: dict[str, RequestId]) -> list[RequestId]:
        return []

    def fail(self, *_args: object) -> None: ...

    def sent(self, _request_id: RequestId) -> Sequence[int]:
        return ()

    def counter(self, _request_id: RequestId) -> Callable[[], int]:
        return int


def busy_router() -> Played:
    """64 workers that report everything, and every counter with every label that it can have."""
    played = Played(settings(), WORKERS)
    played.heart.attach(Deaf())
    played.up()
    infos = [link.info for link in played.links.values()]
    decode = [info.transfer_agent for info in infos if info.role is Role.DECODE]
    for info in infos:
        # Prefill workers test the transport, with each peer that they write to.
        written_to = decode if info.role is Role.PREFILL else ()
        played.frame(info.worker_id, transfer=_report(written_to))
    for number, tenant in enumerate(tenants()):
        tokens = [number * 100 + n for n in range(64)]
        caller = Caller(tenant, trace=TRACE)
        name = RequestId(f"cmpl-{number:032x}-0")
        played.heart.submit(EngineRequest(name, (b"x",), 64, 16, tokens=tokens, caller=caller))
    played.compute_prompts()
    _count_all(played)
    played.heart.tick(MonotonicClock().now())
    return played


def _count_all(played: Played) -> None:
    """Each tenant and class with each end, each reason with a count."""
    metrics, ledger = played.metrics, played.heart._ledger  # noqa: SLF001
    now = MonotonicClock().now()
    for reason in Reason:
        metrics.refused(reason)
        metrics.retried(reason.value)
        metrics.ended(reason, 1.0)
    for tenant in tenants():
        for outcome in ("admitted", Reason.QUEUE_FULL.value, Reason.TENANT_LIMIT.value):
            metrics.tenant(tenant, outcome)
    kept = Verdict(*[True] * len(PROMISES))
    for one in list(ledger):
        end = Ending(None, 3.0, 0.5, 20)
        ledger._keeping.ended(one.request, one.state, end, now)  # noqa: SLF001
    for tenant in tenants():
        promise = ledger._keeping._promises.to(tenant)  # noqa: SLF001
        ledger._keeping._slo.ended(promise.slo_class, tenant, kept, 1, 1, now)  # noqa: SLF001


def _report(agents: Sequence[str]) -> pb.Transfer:
    times = pb.Times(bounds_s=_BOUNDS_S, counts=[7] * (len(_BOUNDS_S) + 1), sum_s=12.5)
    states = {f"{end}.{state}": 1 for end in ("source", "target") for state in _STATES}
    return pb.Transfer(
        bytes_written=1 << 40,
        writes=1 << 20,
        descriptors=1 << 24,
        received=1 << 16,
        ended=dict.fromkeys(_REASONS, 3),
        late_notices=2,
        transfer=times,
        exposed=times,
        tickets=states,
        fenced_blocks=5,
        quarantined_blocks=1,
        gb_per_s=dict.fromkeys(agents, 12.5),
    )
