"""One engine of a transport self-test, as a program: prints what it found as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from baton.clock import MonotonicClock
from kv_transfer.pair_tests import PairTests, Rules
from kv_transfer.self_test import PairResult, PairTest, TestLimits
from tests.wire.nixl_scratch import Other, ScratchEngine

LIMITS = TestLimits(patience_s=1.0)


class Run:
    """Drives one test as a mover does."""

    def __init__(self) -> None:
        self.engine = ScratchEngine(fill=1)
        self.other = Other({name: os.environ[name] for name in ("UCX_TLS", "UCX_NET_DEVICES")})
        self.other.meet(self.engine)
        self.longest_turn_s = 0.0

    def test(self, limits: TestLimits, each: Callable[[PairTest], None]) -> PairResult:
        agent, peer = self.engine.agent, self.other.endpoint.agent
        block = self.engine.layout.block_bytes
        test = PairTest(agent, peer, block, MonotonicClock(), limits=limits)
        answers = PairTests(agent, MonotonicClock(), Rules(block), lambda _: None, [test])
        for _ in range(200_000):
            for sender, message in agent.notices():
                answers.hear(sender, message)
            each(test)
            began = time.monotonic()
            result = test.turn()
            self.longest_turn_s = max(self.longest_turn_s, time.monotonic() - began)
            if result is not None:
                return result
            time.sleep(0.0002)
        raise AssertionError("the test does not end")

    def end(self, **found: object) -> None:
        found["untouched"] = self.other.end()
        self.engine.agent.close()
        print(json.dumps({**found, "longest_turn_s": self.longest_turn_s}))


def nothing(test: PairTest) -> None:
    """Lets the test run."""


def rate() -> None:
    run = Run()
    result = run.test(TestLimits(), nothing)
    run.end(
        verdict=result.verdict.value, gb_per_s=result.gb_per_s, writes=result.writes,
        seconds=result.seconds,
    )  # fmt: skip


def stopped() -> None:
    run = Run()
    run.other.stop()
    first = run.test(LIMITS, nothing)
    run.other.go_on()
    second = run.test(TestLimits(), nothing)
    run.end(first=first.verdict.value, first_s=first.seconds, second=second.verdict.value)


def stopped_later() -> None:
    run = Run()

    def stop(test: PairTest) -> None:
        if len(test._samples) == 2:
            run.other.stop()

    first = run.test(LIMITS, stop)
    run.other.go_on()
    run.end(first=first.verdict.value)


if __name__ == "__main__":
    {"rate": rate, "stopped": stopped, "stopped-later": stopped_later}[sys.argv[1]]()
