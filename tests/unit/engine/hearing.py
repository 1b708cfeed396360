"""What a router heard over its link to a worker."""

from __future__ import annotations

from baton.wire import worker_pb2 as wire
from engine.link import Link
from engine.ports import Step, StepStats
from tests.fakes.engine import FakeOutput
from tests.fakes.worker import House


def news(link: Link) -> list[wire.StepFrame]:
    """All frames that say more than the load."""
    frames = [f for f in everything(link) if f is not None]
    return [f for f in frames if f.outputs or f.ended or f.prefilled]


def everything(link: Link) -> list[wire.StepFrame | None]:
    return [link.frames.get_nowait() for _ in range(link.frames.qsize())]


def ends(link: Link) -> list[tuple[str, str]]:
    return [(e.leg_id, e.reason) for f in news(link) for e in f.ended]


def step(house: House, *outputs: FakeOutput, stats: StepStats | None = None) -> None:
    house.worker._pass_on(Step(outputs, stats))


def is_empty(house: House) -> bool:
    tally = house.worker.tally
    counts = (house.worker.legs, tally.running, tally.waiting, tally.queued_prompt_tokens)
    return counts == (0, 0, 0, 0)
