"""Answers as they come, for programs without an event loop."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

import grpc

from baton_client._core import Leaving, Reading
from baton_client._direct import OK, QUIET, WORD_S, Call, Channels
from baton_client.answers import Completion, Piece
from baton_client.v1 import service_pb2 as pb
from baton_client.v1 import service_pb2_grpc as pb_grpc


class Stream(Leaving[threading.Event], Iterator[Piece]):
    """An answer that arrives piece by piece. Leave it early and the cluster stops working on it.

    with client.stream("Tell me a story") as stream:
        for piece in stream:
            print(piece, end="", flush=True)
    print(stream.result().usage)
    """

    def __init__(
        self,
        stubs: Sequence[pb_grpc.BatonStub],
        reading: Reading,
        workers: Channels[grpc.Channel],
    ) -> None:
        self._stubs = list(stubs)
        self._workers = workers
        self._direct: Call | None = None
        self._reading = reading
        self._call: Call | None = None
        self._left = threading.Event()

    def __next__(self) -> Piece:
        while (piece := self._reading.next_piece()) is None:
            if self._reading.completion is not None:
                raise StopIteration
            self._read()
        return piece

    def result(self) -> Completion:
        """Read what is left; the whole answer. Raises BatonError where there is none."""
        for _ in self:
            pass
        return cast("Completion", self._reading.completion)

    def _read(self) -> None:
        """Take one message, or the end, or pause after a failure."""
        if self._left.is_set():
            self._reading.left()
            return
        try:
            self._call = self._call or self._open()
            message = next(self._direct or self._call, None)
        except grpc.RpcError as error:
            if not self._left.is_set():
                self._left.wait(self._failed(error))
        else:
            self._take(message)

    def _take(self, message: pb.GenerateResponse | None) -> None:
        if message is not None:
            route = self._reading.took(message)
            if self._reading.error is not None:
                self.cancel()
            elif route is not None:
                self._follow(route)
        elif self._direct is not None:
            # What the router has to tell is left.
            self._direct = None
        else:
            self._reading.ended()

    def _follow(self, route: pb.Route) -> None:
        """Read from the worker, unless the router's call fails meanwhile."""
        router, wait_s = cast("Call", self._call), self._reading.detour_s(route.address)
        if wait_s is not None:
            router.cancel()
            self._call = None
            self._left.wait(wait_s)
            return
        self._direct = call = self._at_worker(route)

        def ended() -> None:
            if router.code() not in QUIET:
                call.cancel()

        if not router.add_callback(ended):
            ended()
        if self._left.is_set():
            call.cancel()

    def _at_worker(self, route: pb.Route) -> Call:
        request = pb.StreamRequest(grant=route.grant)
        with self._reading.kept.calling():
            worker = self._workers.to(route.address)
            with self._reading.kept.making():
                stub = pb_grpc.DirectStub(worker)
            return cast("Call", stub.Stream(request, timeout=self._reading.left_s()))

    def _failed(self, error: grpc.RpcError) -> float:
        router, direct = self._call, self._direct
        self._direct = None
        if direct is not None and self._reading.has_all:
            return 0.0
        self._call = None
        if router is None or direct is None:
            return self._reading.failed(error)
        over = threading.Event()
        ended = not router.add_callback(over.set) or over.wait(WORD_S)
        told = router if ended and router.code() is not OK else None
        router.cancel()
        return self._reading.broke(error, cast("grpc.RpcError | None", told))

    def _open(self) -> Call:
        arguments = self._reading.call_arguments()
        first, *others = self._stubs[min(self._reading.attempt, len(self._stubs)) - 1 :]
        try:
            call = self._begun(first, arguments)
        except ValueError:
            # The session was closed, and its connection with it.
            if not others:
                raise
            call = self._begun(others[0], arguments)
        self._call = call
        # `cancel` may have come from another thread before there was a call.
        if self._left.is_set():
            call.cancel()
        return call

    def _begun(self, stub: pb_grpc.BatonStub, arguments: dict[str, Any]) -> Call:
        with self._reading.kept.calling():
            return cast("Call", stub.Generate(**arguments))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
        self._reading.left()
