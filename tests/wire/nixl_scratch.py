"""Agents with scratch memory, here and in another process, for the transport self-test."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import uuid
from multiprocessing.connection import Connection

import torch

from baton.clock import MonotonicClock
from kv_transfer.agent import Agent
from kv_transfer.endpoint import Layout, Region, decode_endpoint, encode_endpoint
from kv_transfer.pair_tests import PairTests, Rules

LAYERS, BLOCKS, PIECE = 8, 4, 64 * 1024


class ScratchEngine:
    """Memory, and an agent with scratch memory besides. Blocks are of a real size."""

    def __init__(self, fill: int) -> None:
        self.tensors = [torch.full((BLOCKS, PIECE // 4), fill, dtype=torch.int32)] * LAYERS
        regions = tuple(Region(t.data_ptr(), PIECE, PIECE) for t in self.tensors)
        self.layout = Layout(regions, BLOCKS, 16, "DRAM", 0, "int32")
        self.name = f"baton-{uuid.uuid4().hex}"
        self.agent = Agent(self.name, self.layout)

    def words(self) -> set[int]:
        """The different words in its KV blocks."""
        return {int(word) for word in self.tensors[0].unique()}


def live(control: Connection, environment: dict[str, str]) -> None:
    """Another engine: meets the first, answers its probes, until the connection ends."""
    os.environ.update(environment)
    engine = ScratchEngine(fill=0)
    agent = engine.agent
    control.send(encode_endpoint(agent.endpoint()))
    agent.connect(decode_endpoint(control.recv()))
    tests = PairTests(agent, MonotonicClock(), Rules(0), lambda _: None)
    while not control.poll():
        for peer, message in agent.notices():
            tests.hear(peer, message)
        time.sleep(0.0002 if tests.busy else 0.005)
    untouched = engine.words() == {0}
    agent.close()
    control.recv()
    control.send(untouched)


class Other:
    """Such an engine in a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.control, theirs = context.Pipe()
        self.process = context.Process(target=live, args=(theirs, environment), daemon=True)
        self.process.start()
        assert self.control.poll(60), "the other engine's process does not start"
        self.endpoint = decode_endpoint(self.control.recv())

    def meet(self, engine: ScratchEngine) -> None:
        self.control.send(encode_endpoint(engine.agent.endpoint()))
        assert engine.agent.connect(self.endpoint)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> bool:
        """Whether no KV block of its had been touched."""
        self.control.send("end")
        assert self.control.poll(20)
        untouched = self.control.recv()
        self.process.join(20)
        return untouched

    def kill(self) -> None:
        self.process.kill()
        self.process.join(10)
