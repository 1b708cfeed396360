"""The link over real gRPC: order, loss told once, reconnects, bounds."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from baton.clock import MonotonicClock
from baton.errors import BatonError
from baton.ids import LegId, RequestId, RouterId, WorkerId, parse_leg_id
from baton.messages import ClusterView, Member, Role, WorkerState
from baton.settings import Settings
from baton.wire import worker_pb2 as pb
from router.heart import Heart
from router.life import SubmitLeg
from router.link import LinkLimits, WorkerLink, connector
from router.metrics import RouterMetrics
from router.ports import EngineRequest
from router.wire import Identity, abort_message, submit_message
from tests.wire.fake_worker import DIGEST, FakeWorker, refuse, serve, stay_silent

ME = Identity(RouterId("router-0/1"), DIGEST)
LIMITS = LinkLimits(queued_messages_max=4, backoff_s=0.01, backoff_max_s=0.05)
LEG = parse_leg_id("r.0.s")


class Heard:
    """What a link told its owner."""

    def __init__(self) -> None:
        self.frames: list[pb.StepFrame] = []
        self.lost: list[str] = []
        self.on_next: Callable[[], None] = lambda: None

    def on_frame(self, worker_id: WorkerId, frame: pb.StepFrame) -> None:
        self.frames.append(frame)
        self.on_next()

    def on_link_lost(self, worker_id: WorkerId, why: str) -> None:
        self.lost.append(why)


@pytest.fixture
async def worker() -> AsyncIterator[FakeWorker]:
    async with FakeWorker() as fake:
        yield fake


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def link(worker: FakeWorker, heard: Heard) -> AsyncIterator[WorkerLink]:
    link = WorkerLink(worker.info, ME, heard, LIMITS)
    yield link
    await link.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (conditions of other people's state)
            await asyncio.sleep(0.005)


def submit(leg_id: LegId = LEG, size: int = 1) -> pb.RouterMessage:
    request = EngineRequest(leg_id.request, (b"x" * size,), 7, 5)
    return submit_message(SubmitLeg(leg_id, WorkerId("w")), request, 3.0)


async def test_a_link_introduces_itself_and_hears_frames(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    assert worker.link.hello == pb.Hello(router_id="router-0/1", config_digest=DIGEST)
    worker.link.push(pb.StepFrame(outputs=[b"tokens"]))
    await until(lambda: len(heard.frames) == 2)
    assert list(heard.frames[1].outputs) == [b"tokens"]


async def test_an_abort_never_overtakes_its_submit(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    link.send(submit())
    link.send(abort_message([LEG]))
    await until(lambda: worker.aborts)
    assert [one.leg_id for one in worker.submits] == worker.aborts == ["r.0.s"]
    assert worker.submits[0].prompt_tokens == 7


async def test_what_waits_leaves_together_in_its_order(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    for number in range(4):
        link.send(submit(parse_leg_id(f"r{number}.0.s")))
    await until(lambda: len(worker.submits) == 4)
    assert [one.leg_id for one in worker.submits] == [f"r{number}.0.s" for number in range(4)]
    assert worker.link.together == [4]


async def test_what_is_large_does_not_leave_together(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    for number in range(4):
        link.send(submit(parse_leg_id(f"r{number}.0.s"), size=600 * 1024))
    await until(lambda: len(worker.submits) == 4)
    assert worker.link.together == [2, 2]


async def test_large_requests_and_frames_pass(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    link.send(submit(size=20 * 2**20))
    await until(lambda: worker.submits)
    worker.link.push(pb.StepFrame(outputs=[b"x" * 20 * 2**20]))
    await until(lambda: len(heard.frames) == 2)


async def test_what_is_sent_while_down_is_dropped(worker, heard, link) -> None:
    link.send(submit())
    await until(lambda: heard.frames)
    link.send(abort_message([LEG]))
    await until(lambda: worker.aborts)
    assert worker.submits == []


async def test_the_end_of_the_stream_is_told_once_and_a_new_one_follows(
    worker, heard, link
) -> None:
    await until(lambda: heard.frames)
    worker.link.end()
    await until(lambda: len(worker.links) == 2 and len(heard.frames) == 2)
    assert heard.lost == ["the worker ended the stream"]
    link.send(submit())
    await until(lambda: worker.link.submits)


async def test_a_worker_that_dies_and_comes_back_is_found_again(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    await worker.stop()
    await until(lambda: heard.lost)
    await asyncio.sleep(0.1)
    await worker.start()
    await until(lambda: len(heard.frames) == 2)
    assert len(heard.lost) == 1


async def test_the_end_of_a_worker_leaves_nobody_waiting(worker, heard, link) -> None:
    """gRPC's own task would wait for messages for ever, and complain when it is destroyed."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    await until(lambda: heard.frames)
    # Those of the next attempt at a link, which may be under way by then, are not meant.
    sending = [t for t in asyncio.all_tasks() if "_consume_request_iterator" in str(t.get_coro())]
    assert len(sending) == 1
    await worker.stop()
    await until(lambda: heard.lost)
    await until(sending[0].done)
    for _ in range(3):
        await asyncio.sleep(0.01)
        gc.collect()
    assert complaints == []


async def test_a_refused_link_was_never_up(worker, heard) -> None:
    worker.refuses_with = grpc.StatusCode.FAILED_PRECONDITION
    link = WorkerLink(worker.info, ME, heard, LIMITS)
    await asyncio.sleep(0.2)
    assert (heard.frames, heard.lost) == ([], [])
    worker.refuses_with = None
    await until(lambda: heard.frames)
    await link.aclose()


async def test_a_gap_in_the_frames_breaks_the_link(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    worker.link.push(skip=1)
    await until(lambda: heard.lost)
    assert heard.lost == ["frame 3 came after frame 1"]
    await until(lambda: len(heard.frames) == 2)


async def test_a_worker_that_does_not_read_breaks_the_link(worker, heard, link) -> None:
    worker.reads = False
    await until(lambda: heard.frames)
    async with asyncio.timeout(10):
        while not heard.lost:
            link.send(submit(size=2**20))
            await asyncio.sleep(0.001)
    assert heard.lost == ["the worker reads too slowly"]


async def test_a_listener_that_raises_loses_this_link_only(worker, heard) -> None:
    link = WorkerLink(worker.info, ME, heard, LIMITS)
    await until(lambda: heard.frames)

    def fault() -> None:
        heard.on_next = lambda: None
        raise KeyError("bug")

    heard.on_next = fault
    worker.link.push()
    await until(lambda: heard.lost)
    assert heard.lost == ["fault in the router: 'bug'"]
    await until(lambda: len(worker.links) == 2 and len(heard.frames) == 3)
    await link.aclose()


async def test_closing_tells_the_worker_and_nobody_else(worker, heard, link) -> None:
    await until(lambda: heard.frames)
    await link.aclose()
    await asyncio.wait_for(worker.link.closed.wait(), 5)
    assert heard.lost == []
    await link.aclose()
    link.send(submit())


async def test_closing_while_nobody_listens_ends_at_once(heard) -> None:
    worker = FakeWorker()
    await worker.start()
    info = worker.info
    await worker.stop()
    link = WorkerLink(info, ME, heard, LIMITS)
    await asyncio.sleep(0.05)
    await asyncio.wait_for(link.aclose(), 2)
    assert (heard.frames, heard.lost) == ([], [])


# --- heart and links together ---------------------------------------------------------------------


class Front:
    """Finishes a request when a frame's buffer says so."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        self.failed: dict[str, BatonError] = {}

    def deliver(self, buffers, requests) -> list[RequestId]:
        done = [request_id for leg, request_id in requests.items() if b"end" in buffers]
        self.finished += done
        return done

    def sent(self, request_id: RequestId) -> list[int]:
        return []

    def counter(self, request_id: RequestId):
        return int

    def fail(self, request_id: RequestId, error: BatonError) -> None:
        self.failed[request_id] = error


@pytest.fixture
async def pair() -> AsyncIterator[tuple[FakeWorker, FakeWorker]]:
    answer = serve(lambda _submit: [[b"tokens"], [b"end"]])
    async with (
        FakeWorker(answer, worker_id="p", role=Role.PREFILL) as prefill,
        FakeWorker(answer, worker_id="d", role=Role.DECODE) as decode,
    ):
        yield prefill, decode


@pytest.fixture
async def heart(pair) -> AsyncIterator[Heart]:
    settings = Settings.model_validate({"router": {"disaggregate": "always"}})
    heart = Heart(ME, settings, MonotonicClock(), RouterMetrics(), connector(ME, LIMITS))
    heart.attach(Front())
    members = (Member(w.info.worker_id, w.info.role, WorkerState.READY, w.info) for w in pair)
    heart.set_view(ClusterView(1, tuple(members)))
    heart.start()
    await until(lambda: all(worker["up"] for worker in heart.status()["workers"]))
    yield heart
    await heart.aclose()


def ask(heart: Heart, name: str = "r") -> None:
    heart.submit(EngineRequest(RequestId(name), (b"x",), 7, 5))


async def test_a_request_goes_through_both_workers(pair, heart) -> None:
    prefill, decode = pair
    ask(heart)
    await asyncio.wait_for(heart.idle(), 5)
    assert heart._front.finished == ["r"]
    assert [s.leg_id for s in prefill.submits + decode.submits] == ["r.0.p", "r.0.d"]
    assert decode.submits[0].ticket.handed == b"handed by the fake"


async def test_a_refusal_by_decode_ends_the_request_with_its_reason(pair, heart) -> None:
    pair[1].answer = refuse("worker_full", retry_after_s=2.5)
    ask(heart)
    await asyncio.wait_for(heart.idle(), 5)
    error = heart._front.failed["r"]
    assert (error.reason.value, error.retry_after_s) == ("worker_full", 2.5)


@pytest.mark.parametrize("dying", [0, 1], ids=["prefill", "decode"])
async def test_a_worker_that_dies_costs_no_request_and_serves_again(pair, heart, dying) -> None:
    victim = pair[dying]
    answer, victim.answer = victim.answer, stay_silent
    ask(heart)
    await until(lambda: victim.submits)
    await victim.stop()
    await until(lambda: heart.status()["workers"][dying]["up"] is False)
    victim.answer = answer
    await victim.start()
    await asyncio.wait_for(heart.idle(), 5)
    await until(lambda: all(worker["up"] for worker in heart.status()["workers"]))
    ask(heart, "again")
    await asyncio.wait_for(heart.idle(), 5)
    assert (heart._front.finished, heart._front.failed) == (["r", "again"], {})


async def test_an_abort_reaches_the_worker(pair, heart) -> None:
    pair[0].answer = stay_silent
    ask(heart)
    await until(lambda: pair[0].submits)
    heart.abort([RequestId("r")])
    await until(lambda: pair[0].aborts)
    assert (pair[0].aborts, pair[1].submits) == (["r.0.p"], [])
