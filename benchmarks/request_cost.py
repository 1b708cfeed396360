"""What a request costs the router itself, by the number of its workers.

usage: python -m benchmarks.request_cost [--quick] [--json FILE]
The whole of what a router thinks about a request: the knock, the limits, the prompt's keys, the
choice of workers and the message to them, with everything the router would count and remember. Its
workers are played, and between two requests each of them says something, as workers under load do:
nothing that a router has made of a report serves twice. Prompts have 2,048 tokens, the first 512 of
them shared; rendering, sockets and tokens are not in it. `request_us_N`: processor time with N
workers of each role, medians over requests; pools of different sizes take turns. `worker_us` is
what each worker more adds to it. The last line is one JSON object.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from itertools import product
from statistics import median

from baton.ids import RequestId
from baton.settings import Settings
from baton.wire import worker_pb2 as pb
from benchmarks.metrics_world import Deaf, Played
from benchmarks.outputs import command, tell
from deploy.model import resolved
from router.caller import ANYBODY
from router.ports import EngineRequest

POOLS = (1, 8, 64)
_PROMPT_TOKENS, _SHARED_TOKENS = 2048, 512
_TURN = 20
"""Requests to one pool before the next one has its turn, with the processor's caches cold."""
QUICK_REQUESTS, REQUESTS = 200, 3000
_NOTHING_NEW = pb.CacheDelta(number=1)
"""Of its cache, which is as fresh as the frame."""


class Asked:
    """A router with so many workers of each role, asked for one answer after the other."""

    def __init__(self, workers: int) -> None:
        self.spent_us: list[float] = []
        self.played = Played(resolved(Settings()), workers)
        self.played.heart.attach(Deaf())
        self.played.up()
        self._requests = _requests()
        for _ in range(_TURN):
            self.ask()
        self.spent_us.clear()

    def ask(self) -> None:
        """One request, and its end before anything has come of it."""
        heart, request = self.played.heart, next(self._requests)
        began = time.thread_time_ns()
        with heart.door.knock(ANYBODY):
            heart.admit(1, ANYBODY)
            heart.submit(request)
        self.spent_us.append((time.thread_time_ns() - began) / 1e3)
        heart.abort([request.request_id])
        for name, link in self.played.links.items():
            link.prompts.clear()
            link.answers.clear()
            self.played.frame(name, cache=_NOTHING_NEW)


def _requests() -> Iterator[EngineRequest]:
    chance, number = random.Random(0), 0
    shared = [chance.randrange(50_000) for _ in range(_SHARED_TOKENS)]
    while True:
        number += 1
        own = [chance.randrange(50_000) for _ in range(_PROMPT_TOKENS - _SHARED_TOKENS)]
        name = RequestId(f"cmpl-{number:032x}-0")
        yield EngineRequest(name, (b"x",), _PROMPT_TOKENS, 128, tokens=[*shared, *own])


def measured(requests: int) -> dict[str, float]:
    """Microseconds of processor time, medians of so many requests to each pool."""
    pools = {workers: Asked(workers) for workers in POOLS}
    gc.collect()
    gc.freeze()
    for _, one in product(range(requests // _TURN), pools.values()):
        for _ in range(_TURN):
            one.ask()
    gc.unfreeze()
    cost_us = {workers: median(one.spent_us) for workers, one in pools.items()}
    least, most = min(POOLS), max(POOLS)
    figures = {f"request_us_{workers}": us for workers, us in cost_us.items()}
    figures["worker_us"] = (cost_us[most] - cost_us[least]) / (most - least)
    return {name: round(us, 2) for name, us in figures.items()}


def main(argv: list[str] | None = None) -> int:
    args = command(__doc__, "a short run: some seconds").parse_args(argv)
    tell(measured(QUICK_REQUESTS if args.quick else REQUESTS), args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
