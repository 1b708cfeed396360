"""vLLM's Rust front end alone, for `benchmarks.api`: an engine is played right behind it.

The same binary and the same answers with neither routing nor a worker: what a path through it
costs beyond this is Baton's part, on whatever machine.
"""

from __future__ import annotations

import math
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import zmq
from vllm.v1.engine import EngineCoreRequestType

from baton.settings import Settings
from benchmarks.api_worker import PARAMS, WORDS, Play, output_of, step_of
from benchmarks.nodes import settle_in
from deploy.front_commands import rust_launch
from deploy.model import model_path, served_name
from router.engine_link import RANK, ModelLimits, ready_message
from router.front_processes import Ends

_LIMITS = ModelLimits(max_model_len_tokens=8192, block_size_tokens=128, kv_blocks=100_000)


@dataclass(frozen=True, slots=True)
class Up:
    """Where clients find it."""

    ready_url: str


class _Engine:
    """The other end of a front end's sockets."""

    def __init__(self, ends: Ends) -> None:
        context: zmq.Context[Any] = zmq.Context()
        self.input = context.socket(zmq.DEALER)
        self.input.setsockopt(zmq.IDENTITY, RANK)
        self.input.connect(_address(ends.input))
        self._output = context.socket(zmq.PUSH)
        self._output.connect(_address(ends.output))
        self.left: dict[str, int] = {}
        """By request: the tokens that are still to come."""
        self._steps = 0
        self.input.send(ready_message(_LIMITS))

    def hear(self) -> None:
        """All that has come: a request more, or some fewer."""
        while self.input.poll(0):
            kind, first, *_ = self.input.recv_multipart()
            said = msgspec.msgpack.decode(first)
            if kind == EngineCoreRequestType.ADD.value:
                self.left[said[0]] = said[PARAMS]["max_tokens"]
            elif kind == EngineCoreRequestType.ABORT.value:
                for name in said:
                    self.left.pop(name, None)

    def step(self) -> None:
        """One token for each."""
        word = WORDS[self._steps % len(WORDS)]
        outputs = [output_of(name, [word], left == 1) for name, left in self.left.items()]
        self._output.send_multipart(step_of(outputs))
        self.left = {name: left - 1 for name, left in self.left.items() if left > 1}
        self._steps += 1


def serve(pipe: Connection, dump: dict[str, Any]) -> None:
    """Says where it is, and plays what it hears until that is None."""
    settle_in()
    settings = Settings.model_validate(dump)
    ends = Ends(*(socket.create_server(("127.0.0.1", 0)) for _ in range(3)))
    process = rust_launch(settings, model_path(settings), served_name(settings))(ends)
    try:
        engine = _Engine(ends)
        pipe.send(Up(f"http://{_address(ends.door).removeprefix('tcp://')}"))
        _play(engine, pipe)
    finally:
        process.kill()
        process.wait()


def _play(engine: _Engine, pipe: Connection) -> None:
    poller = zmq.Poller()
    poller.register(engine.input, zmq.POLLIN)
    poller.register(pipe.fileno(), zmq.POLLIN)
    play, due, begun = Play(), 0.0, False
    while True:
        left_s = max(due - time.monotonic(), 0.0)
        came = dict(poller.poll(math.ceil(left_s * 1000) if begun else None))
        if pipe.fileno() in came:
            if (word := pipe.recv()) is None:
                return
            play = word if isinstance(word, Play) else play
            pipe.send("heard")
        engine.hear()
        begun = bool(engine.left) and (begun or len(engine.left) >= play.streams)
        if begun and (now := time.monotonic()) >= due:
            due = now + play.pace_s
            engine.step()


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()
    return f"tcp://{host}:{port}"
