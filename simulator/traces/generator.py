"""Seeded loads with the structure of real ones: hot system prompts, chats, agents with tools.

Sessions arrive at random. A session has a system prompt, drawn from a few of very different
popularity, and turns that each send the whole history again. Chats pause while a person reads and
writes; agents return after a tool call, sooner, with a tool's output as new input. Turns do not
wait for answers of the simulated system (an open loop), but for the time an answer usually takes.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

from simulator.traces.request import BLOCK_TOKENS, Request, Trace, blocks_of


@dataclass(frozen=True, slots=True)
class Spread:
    """A log-normal quantity: its mean, and the sigma of its logarithm (0 = always the mean)."""

    mean: float
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not (self.mean > 0 and self.sigma >= 0 and math.isfinite(self.mean + self.sigma)):
            raise ValueError(f"not a spread: {self}")

    def draw(self, rng: random.Random) -> float:
        """One value."""
        return rng.lognormvariate(math.log(self.mean) - self.sigma**2 / 2, self.sigma)

    def tokens(self, rng: random.Random) -> int:
        """One value as a count of at least 1."""
        return max(1, round(self.draw(rng)))


@dataclass(frozen=True, slots=True)
class Manner:
    """How the sessions of one kind behave. `turns` is the mean of a geometric distribution."""

    turns: float
    new_tokens: Spread
    answer_tokens: Spread
    gap_s: Spread

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ValueError(f"a session has at least one turn, not {self.turns} on average")


CHAT = Manner(3.5, Spread(180, 1.0), Spread(300, 0.7), Spread(30, 0.8))
AGENT = Manner(8.0, Spread(900, 1.0), Spread(120, 0.8), Spread(2.5, 0.9))


@dataclass(frozen=True, slots=True)
class Workload:
    """What to generate. Prompt number i is chosen with weight 1/i**`system_skew`."""

    requests: int
    sessions_per_s: float
    seed: int = 0
    system_prompts: int = 20
    system_skew: float = 1.0
    system_tokens: Spread = Spread(1500, 0.6)
    agent_share: float = 0.3
    chat: Manner = CHAT
    agent: Manner = AGENT
    tenants: int = 4
    answer_token_s: float = 0.02
    """The usual time per token of an answer, which passes before the next turn's gap begins."""
    input_tokens_max: int = 32_768
    """A session ends before a turn that would be longer."""

    def __post_init__(self) -> None:
        if min(self.requests, self.system_prompts, self.tenants, self.input_tokens_max) < 1:
            raise ValueError("requests, system_prompts, tenants, input_tokens_max: at least 1 each")
        if not self.sessions_per_s > 0:
            raise ValueError(f"sessions_per_s has to be above 0: {self.sessions_per_s}")
        if not 0 <= self.agent_share <= 1:
            raise ValueError(f"agent_share has to be between 0 and 1: {self.agent_share}")
        if self.system_skew < 0 or self.answer_token_s < 0:
            raise ValueError("system_skew and answer_token_s: at least 0 each")


@dataclass(frozen=True, slots=True, order=True)
class _Turn:
    at_s: float
    session: int
    turn: int
    input_tokens: int
    output_tokens: int
    system: int
    system_tokens: int


def generate(load: Workload) -> Trace:
    """The load; the same for the same parameters, everywhere."""
    turns = _merged(load, random.Random(load.seed))
    requests = tuple(_request(load, next(turns), number) for number in range(load.requests))
    return Trace(f"generated-{load.seed}", requests)


def _merged(load: Workload, rng: random.Random) -> Iterator[_Turn]:
    """The turns of endlessly many sessions in order of time."""
    heap: list[_Turn] = []
    most = load.input_tokens_max // 2 + 1
    sizes = [min(load.system_tokens.tokens(rng), most) for _ in range(load.system_prompts)]
    weights = [1 / rank**load.system_skew for rank in range(1, load.system_prompts + 1)]
    start_s, session = 0.0, 0
    while True:
        start_s += rng.expovariate(load.sessions_per_s) if session else 0.0
        while heap and heap[0].at_s < start_s:
            yield heapq.heappop(heap)
        system = rng.choices(range(load.system_prompts), weights)[0]
        for turn in _session(load, rng, session, start_s, (system, sizes[system])):
            heapq.heappush(heap, turn)
        session += 1


def _session(
    load: Workload, rng: random.Random, session: int, at_s: float, system: tuple[int, int]
) -> Iterator[_Turn]:
    manner = load.agent if rng.random() < load.agent_share else load.chat
    tokens, turn = system[1], 0
    while True:
        tokens = tokens + manner.new_tokens.tokens(rng)
        if tokens > load.input_tokens_max:
            if turn:
                return
            tokens = load.input_tokens_max
        answer = manner.answer_tokens.tokens(rng)
        yield _Turn(at_s, session, turn, tokens, answer, *system)
        if rng.random() * manner.turns < 1:
            return
        tokens += answer
        at_s += answer * load.answer_token_s + manner.gap_s.draw(rng)
        turn += 1


def _request(load: Workload, turn: _Turn, number: int) -> Request:
    return Request(
        number=number,
        arrival_s=turn.at_s,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        blocks=tuple(_key(load, turn, index) for index in range(blocks_of(turn.input_tokens))),
        session=f"s{turn.session}",
        tenant=f"t{turn.session % load.tenants}",
    )


def _key(load: Workload, turn: _Turn, index: int) -> int:
    """A block is shared by all with its system prompt, by its session, or by nobody yet."""
    end = (index + 1) * BLOCK_TOKENS
    if end <= turn.system_tokens:
        owner = f"system {turn.system}"
    elif end <= turn.input_tokens:
        owner = f"session {turn.session}"
    else:
        owner = f"session {turn.session} turn {turn.turn}"
    name = f"{load.seed} {owner} {index}".encode()
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") >> 1
