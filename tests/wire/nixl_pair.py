"""Real NIXL agents over small tensors, in this process and in another one."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from kv_transfer.agent import Agent, WriteState
from kv_transfer.endpoint import Blocks, Layout, Region, decode_endpoint, encode_endpoint
from kv_transfer.sums import Sums, views_of

TENSORS, BLOCKS, WORDS = 4, 8, 16384
"""Four blocks of one tensor make a piece of a prompt that is worth a write."""
PATIENCE_S = 20.0


class Engine:
    """Memory and an agent over it. Each word starts as `fill`. With fewer layers than tensors,
    a layer has several, as where K and V lie apart."""

    def __init__(self, fill: int, fingerprint: str = "int32", layers: int = TENSORS) -> None:
        shape = (BLOCKS, WORDS)
        self.tensors = [torch.full(shape, fill, dtype=torch.int32) for _ in range(TENSORS)]
        regions = tuple(Region(t.data_ptr(), WORDS * 4, WORDS * 4) for t in self.tensors)
        self.layout = Layout(regions, BLOCKS, 4, "DRAM", 0, fingerprint, layers)
        self.name = f"baton-{uuid.uuid4().hex}"
        self.agent = Agent(self.name, self.layout)
        self.sums = Sums(views_of(self.tensors, BLOCKS), layers)
        self.heard: list[tuple[str, bytes]] = []

    def number(self) -> None:
        """A content of its own for each word."""
        for layer, tensor in enumerate(self.tensors):
            count = tensor.numel()
            tensor.copy_(torch.arange(count).view(tensor.shape) + layer * count + 1)

    def poll(self) -> list[tuple[str, bytes]]:
        self.heard += self.agent.notices()
        return self.heard

    def words(self, block: int, layer: int = 0, layers: int | None = None) -> set[int]:
        """The different words in a block, over all layers or some."""
        count = self.layout.layers
        some = slice(layer, count if layers is None else layer + layers)
        each = [
            self.tensors[i * TENSORS // count : (i + 1) * TENSORS // count] for i in range(count)
        ]
        return {int(w) for tensors in each[some] for t in tensors for w in t[block].unique()}

    def all_sums(self, blocks: Sequence[int]) -> tuple[int, ...]:
        """Over all layers."""
        return self.sums.of(blocks, 0, self.layout.layers)


def whole(sources: Sequence[int], targets: Sequence[int]) -> Blocks:
    """All layers of these blocks."""
    return Blocks(sources, targets, 0, TENSORS)


def until(done: Callable[[], Any], *engines: Engine, seconds: float = PATIENCE_S) -> bool:
    """Poll these engines until something is so; False when it does not come."""
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        for engine in engines:
            engine.poll()
        if done():
            return True
        time.sleep(0.001)
    return False


def ended(engine: Engine, handle: Any) -> WriteState | None:
    """How a write ended; None while it is under way."""
    state = engine.agent.state(handle)
    return None if state is WriteState.UNDER_WAY else state


def live(control: Connection, polling: bool) -> None:
    """Another engine's process: says where it is, and polls if told to, until killed."""
    engine = Engine(fill=0)
    control.send_bytes(encode_endpoint(engine.agent.endpoint()))
    while True:
        if polling:
            engine.poll()
        time.sleep(0.001)


class Child:
    """An engine in a process of its own that can be killed."""

    def __init__(self, *, polling: bool) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.process = context.Process(target=live, args=(theirs, polling), daemon=True)
        self.process.start()
        assert ours.poll(60), "the other engine's process does not start"
        self.endpoint = decode_endpoint(ours.recv_bytes())

    def kill(self) -> None:
        self.process.kill()
        self.process.join(10)
