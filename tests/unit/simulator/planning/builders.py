"""Engines and loads with round numbers, for which the right cluster is known."""

import random

from simulator.engine_model.times import EngineTimes
from simulator.planning.planner import Question
from simulator.planning.setups import Hardware
from simulator.planning.terms import Promises
from simulator.rules import EngineRules
from simulator.traces.request import Request, Trace, blocks_of

TIMES = EngineTimes(0, 0, 0.001, 0, 0, 0.010, 0.005, 0, 0, 0, 1000)
"""A prompt token takes 1 ms, a step 10 ms and 5 ms per request: six requests make 40 ms."""
ENGINE = Hardware("round", TIMES, EngineRules(100_000, 2048, 64))
PROMISES = Promises(2.0, 0.0401)


def load(per_s: float, prompt: int, answer: int, requests: int = 150) -> Trace:
    chance, at_s, made = random.Random(1), 0.0, []
    for number in range(requests):
        keys = tuple(1000 * (number + 1) + i for i in range(blocks_of(prompt)))
        made.append(Request(number, at_s, prompt, answer, keys))
        at_s += chance.uniform(0.5, 1.5) / per_s
    return Trace("round", tuple(made))


def question(trace: Trace, **changes: object) -> Question:
    basis: dict[str, object] = {"promises": PROMISES, "hardware": (ENGINE,)}
    return Question(trace, **(basis | {"gpus_max": 12, "seeds": 1, "ladder": ()} | changes))
