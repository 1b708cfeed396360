"""Answers read from decode workers: whether to ask for one, the channels, and what goes on."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc
from grpc import aio

from baton_client.v1 import service_pb2 as pb

WORD_S = 1.0
"""How long a router's word on a stream that broke is waited for."""
PAUSE_S = 30.0
CHANNELS_MAX = 64

OK = grpc.StatusCode.OK
# Ends of a router's call after which the worker's goes on: it has the rest, or the true reason.
QUIET = frozenset({OK, grpc.StatusCode.CANCELLED})

C = TypeVar("C")
AsyncCall: TypeAlias = "aio.UnaryStreamCall[Any, pb.GenerateResponse]"


class Call(Protocol):
    """What gRPC returns, as far as it is used here."""

    def __iter__(self) -> Iterator[pb.GenerateResponse]: ...

    def __next__(self) -> pb.GenerateResponse: ...

    def cancel(self) -> bool: ...

    def code(self) -> grpc.StatusCode: ...

    def add_callback(self, callback: Callable[[], None]) -> bool: ...


class Reach:
    """Whether this client gets through to decode workers, as its last stream has shown."""

    def __init__(self) -> None:
        # 0.0 = nothing is known against it.
        self._again_at = 0.0
        self._lock = threading.Lock()

    def ask(self) -> bool:
        """Whether to ask for a direct stream. After a pause one stream finds out for all."""
        with self._lock:
            ok = (now := time.monotonic()) >= self._again_at
            if ok and self._again_at:
                self._again_at = now + PAUSE_S
            return ok

    def failed(self, pause_s: float = PAUSE_S) -> None:
        """Note one of which nothing came: routers bring the answers for a while."""
        self._again_at = time.monotonic() + pause_s

    def succeeded(self) -> None:
        """Note one of which something came."""
        self._again_at = 0.0


class Channels(Generic[C]):
    """Open channels to workers by address, the latest ones; from any thread."""

    def __init__(self, open_one: Callable[[str], C]) -> None:
        self._open = open_one
        self._kept: OrderedDict[str, C] = OrderedDict()
        self._lock = threading.Lock()

    def to(self, address: str) -> C:
        """The channel to one worker. Forgotten ones end with the last stream that has them."""
        with self._lock:
            if (channel := self._kept.get(address)) is None:
                channel = self._kept[address] = self._open(address)
            self._kept.move_to_end(address)
            while len(self._kept) > CHANNELS_MAX:
                self._kept.popitem(last=False)
            return channel


def resumable(sampling: pb.Sampling) -> bool:
    """Whether the cluster can go on behind the tokens of a broken answer."""
    greedy = sampling.HasField("temperature") and sampling.temperature == 0
    seeded = sampling.HasField("seed") and not greedy
    return sampling.n <= 1 and not seeded and sampling.WhichOneof("structure") is None


async def watch(router: AsyncCall, worker: AsyncCall) -> None:
    if await router.code() not in QUIET:
        worker.cancel()


async def error_of(call: AsyncCall) -> aio.AioRpcError:
    """Of a call that has failed, or is about to."""
    parts = await call.code(), await call.initial_metadata(), await call.trailing_metadata()
    return aio.AioRpcError(*parts, await call.details(), None)
