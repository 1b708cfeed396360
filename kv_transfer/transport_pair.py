"""One end of the transport test of the command line: a process with a NIXL agent and some memory.

The target says where its memory is and polls until its standard input ends. The source reads where
the target is and measures writes and reads, a line of JSON for each. Both ends are processes of
their own because UCX reads its environment once, and prints what it does to standard output; here
everything but the answers goes to standard error.
"""

from __future__ import annotations

import os
import select
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TextIO

import msgspec

from kv_transfer.scratch import Area, Lane, Scratch, Shape
from kv_transfer.self_test import Sample, TestLimits, next_blocks, rate

# As long as an engine naps that expects writes.
_NAP_S = 0.001
_PATIENCE_S = 10.0
_LATENCY_SAMPLES = 20


class Task(msgspec.Struct, frozen=True):
    """What an end is to do."""

    memory: str
    """NIXL's name of the kind of memory: DRAM or VRAM."""
    size: int
    """Bytes of scratch memory."""
    shapes: dict[str, tuple[int, ...]]
    """By name: the pieces of a block."""
    most: dict[str, int]
    """By name of a shape: blocks in one transfer at most, where not all that fit."""
    peer: Where | None = None
    """The target, for the source. Without it, this is the target."""


class Where(msgspec.Struct, frozen=True, tag=True):
    """Where the target's memory is."""

    metadata: bytes
    area: Area


class Measured(msgspec.Struct, frozen=True, tag=True):
    """What was measured of one operation on blocks of one shape."""

    operation: str
    shape: str
    gb_per_s: float
    latency_s: float
    """Median time of one block."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An end that could not do its task, and why."""

    error: str


def main() -> None:
    """Reads a task, does it."""
    answers = _own_standard_output()
    if not (order := sys.stdin.buffer.readline()):
        return
    task = msgspec.json.decode(order, type=Task)
    from nixl._api import nixl_agent, nixl_agent_config, nixlBind

    # NIXL has no common class for its errors.
    errors = tuple(getattr(nixlBind, name) for name in dir(nixlBind) if name.endswith("Error"))
    try:
        config = nixl_agent_config(enable_prog_thread=task.memory != "DRAM")
        agent = nixl_agent(f"baton-{uuid.uuid4().hex}", config)
        scratch = Scratch(agent, task.memory, _device(task), task.size)
        peer = task.peer
        work = _target(agent, scratch) if peer is None else _source(agent, scratch, task, peer)
        for answer in work:
            _say(answers, answer)
        scratch.close()
    except (*errors, MemoryError, RuntimeError, TimeoutError) as error:
        _say(answers, Failed(f"{type(error).__name__}: {error}"))
        sys.exit(1)


def _device(task: Task) -> int:
    """The target is on the first GPU, the source on the second where there is one."""
    if task.memory == "DRAM" or task.peer is None:
        return 0
    import torch

    return min(1, int(torch.cuda.device_count()) - 1)


def _target(agent: Any, scratch: Scratch) -> Iterator[msgspec.Struct]:
    yield Where(bytes(agent.get_agent_metadata()), scratch.area)
    while not select.select([sys.stdin], [], [], _NAP_S)[0]:
        agent.get_new_notifs()


def _source(agent: Any, scratch: Scratch, task: Task, peer: Where) -> Iterator[msgspec.Struct]:
    name = agent.add_remote_agent(peer.metadata)
    name = name.decode() if isinstance(name, bytes) else name
    for shape_name, pieces in task.shapes.items():
        shape = Shape(pieces)
        lane = scratch.lane(name, peer.area, shape)
        for operation in ("WRITE", "READ"):
            most = min(lane.blocks, task.most.get(shape_name, lane.blocks))
            limits = TestLimits(write_bytes=most * shape.block_bytes)
            move = partial(_move, agent, lane, operation)
            samples = _samples(move, shape.block_bytes, limits)
            latency_s = _latency_s(move, samples, limits.enough_s)
            yield Measured(operation, shape_name, rate(samples, shape.block_bytes), latency_s)
        lane.close()
    agent.remove_remote_agent(name)


def _samples(move: Callable[[int], float], block_bytes: int, limits: TestLimits) -> list[Sample]:
    # The first one pays for the connection.
    move(1)
    samples: list[Sample] = []
    while (blocks := next_blocks(samples, block_bytes, limits)) is not None:
        samples.append(Sample(blocks, move(blocks)))
    return samples


def _latency_s(move: Callable[[int], float], samples: Sequence[Sample], enough_s: float) -> float:
    """Median time of one block."""
    singles = [sample.seconds for sample in samples if sample.blocks == 1]
    while len(singles) < _LATENCY_SAMPLES and sum(singles) < enough_s:
        singles.append(move(1))
    return statistics.median(singles)


def _move(agent: Any, lane: Lane, operation: str, blocks: int) -> float:
    """Seconds that one transfer takes."""
    began = time.monotonic()
    handle = lane.make(operation, blocks)
    state = agent.transfer(handle)
    while state == "PROC":
        if time.monotonic() - began > _PATIENCE_S:
            raise TimeoutError(f"one transfer takes longer than {_PATIENCE_S:g} s")
        state = agent.check_xfer_state(handle)
    took = time.monotonic() - began
    agent.release_xfer_handle(handle)
    if state != "DONE":
        raise RuntimeError(f"a transfer ended as {state}")
    return took


def _own_standard_output() -> TextIO:
    """Standard output, which from now on nobody else writes to."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _say(answers: TextIO, answer: msgspec.Struct) -> None:
    answers.write(msgspec.json.encode(answer).decode() + "\n")
    answers.flush()


def read_answer(line: bytes) -> Where | Measured | Failed:
    """One answer of an end, for its owner. Raises ValueError for what is none."""
    return _answers.decode(line)


_answers: msgspec.json.Decoder[Where | Measured | Failed] = msgspec.json.Decoder(
    Where | Measured | Failed
)
