"""Two engines of several ranks: one scheduler's half each, a mover for each rank, and the count of
ranks that vLLM keeps between them.

A move that is not possible now does nothing. What must never happen raises AssertionError from
within the move.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from baton.clock import ManualClock
from kv_transfer.agent import WriteState
from kv_transfer.endpoint import Layout
from kv_transfer.mover import Mover
from kv_transfer.moving import Memory, MoverLimits
from kv_transfer.orders import Done, Orders
from kv_transfer.scheduling import DECODE, PREFILL, transfer_params
from tests.unit.kv_transfer.engine import BLOCK, Engine, Output, Request, key_of
from tests.unit.kv_transfer.fakes import FakeAgent, Network, Side, Write, joined_endpoint, layout_of

POSITIONS = 3
TOKENS = POSITIONS * BLOCK
LIMITS = MoverLimits(write_deadline_s=10.0, hold_s=5.0)


class SpoilingAgent(FakeAgent):
    """Some of what it writes arrives as something else."""

    spoiling = False

    def _finish(self, write: Write) -> None:
        super()._finish(write)
        if self.spoiling:
            self.network.agents[write.peer].memory[write.layer][write.targets[0]] = -1


@dataclass
class Counted:
    """vLLM's KVOutputAggregator, as far as it counts: what all ranks have reported."""

    ranks: int
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)

    def add(self, counts: Counter[str], request_ids: set[str]) -> set[str]:
        """Those that the last rank has reported now."""
        counts.update(request_ids)
        full = {request_id for request_id in request_ids if counts[request_id] == self.ranks}
        for request_id in full:
            del counts[request_id]
        return full


class Ranked:
    """One engine: its scheduler's half, and a mover per rank."""

    def __init__(self, name: str, networks: list[Network], clock: ManualClock) -> None:
        self.engine, self.ranks = Engine(), len(networks)
        self.sides = [self._side(name, n, rank, clock) for rank, n in enumerate(networks)]
        self.endpoint = joined_endpoint(side.agent for side in self.sides)
        self.counted = Counted(self.ranks)

    def _side(self, name: str, network: Network, rank: int, clock: ManualClock) -> Side:
        layout: Layout = replace(layout_of(1), rank=rank, ranks=self.ranks)
        agent = SpoilingAgent(name, network, layout)
        memory = Memory(layout.block_bytes, 1, agent.sums, rank, self.ranks)
        return Side(agent, Mover(agent, LIMITS, clock, memory))

    def feed(self, orders: Orders) -> None:
        """A step: every rank is given the same orders."""
        for side in self.sides:
            side.mover.feed(orders.at_once)
            if orders.computed:
                side.mover.feed([Done(tuple(orders.computed), 1)])

    def report(self) -> tuple[set[str], set[str], set[str]]:
        """(sent, received, failed) by all ranks, told to the scheduler's half as vLLM does."""
        sent: set[str] = set()
        received: set[str] = set()
        broken: set[str] = set()
        for side in self.sides:
            results = side.mover.take()
            for request_id in results.admitted:
                self.engine.side.admitted(request_id)
            broken |= set(results.failed)
            sent |= self.counted.add(self.counted.sent, results.sent)
            over = results.received | set(results.failed)
            received |= self.counted.add(self.counted.received, over)
        self.counted.failed |= broken
        failed = self.counted.failed & received
        self.counted.failed -= failed
        for request_id in sent:
            self.engine.side.sent(request_id)
        for request_id in received:
            self.engine.side.received(request_id)
        for request_id in broken:
            self.engine.side.failed(request_id)
        return sent, received, failed


@dataclass
class Life:
    """One request on both engines. Blocks of the two are numbered alike: request i has its own."""

    number: int
    prefill: Request
    decode: Request
    computed: int = 0
    prefill_ended: bool = False
    held: bool = False
    allocated: bool = False
    aborted: bool = False
    verdict: str = ""
    """How the load ended: good, failed or freed."""

    @property
    def blocks(self) -> list[int]:
        return [self.number * POSITIONS + i for i in range(POSITIONS)]


class World:
    """Both engines and what may happen to them."""

    def __init__(self, ranks: int = 2) -> None:
        self.clock = ManualClock(100.0)
        self.networks = [Network() for _ in range(ranks)]
        self.prefill = Ranked("p", self.networks, self.clock)
        self.decode = Ranked("d", self.networks, self.clock)
        self.lives: list[Life] = []
        self.dead: set[int] = set()
        """Ranks of prefill whose process has ended."""

    # -- requests

    def submit(self) -> None:
        number = len(self.lives)
        if number == 8:
            return
        legs = []
        for kind, engine, peer in (
            (PREFILL, self.prefill, self.decode),
            (DECODE, self.decode, self.prefill),
        ):
            request_id = f"{kind} {number}"
            params = transfer_params(key_of(str(number)), kind, peer.endpoint)
            legs.append(Request(request_id, TOKENS, params))
            engine.engine.side.arrived(legs[-1])
        self.lives.append(Life(number, *legs))

    def compute(self, pick: int) -> None:
        """A step of prefill: each rank computes its part of the next position."""
        ready = [o for o in self.lives if o.computed < POSITIONS and not o.prefill_ended]
        if self.dead or not ready:
            return
        life = ready[pick % len(ready)]
        position, request_id = life.computed, life.prefill.request_id
        for rank, side in enumerate(self.prefill.sides):
            side.agent.memory[0][life.blocks[position]] = _data(rank, life, position)
        life.computed += 1
        before, new = position * BLOCK, life.blocks[position : position + 1]
        step = self.prefill.engine.go_on if position else None
        orders = (
            step(request_id, new, before, BLOCK)
            if step
            else self.prefill.engine.start(request_id, new, BLOCK)
        )
        self.prefill.feed(orders)
        if life.computed == POSITIONS:
            self._end_prefill(life, well=True)

    def drop(self, pick: int) -> None:
        """Prefill's leg is aborted."""
        ready = [o for o in self.lives if not o.prefill_ended]
        if ready and not self.dead:
            self._end_prefill(ready[pick % len(ready)], well=False)

    def _end_prefill(self, life: Life, *, well: bool) -> None:
        life.prefill_ended = True
        life.held = self.prefill.engine.side.finished(life.prefill, well=well)
        self.prefill.feed(self.prefill.engine.idle())

    def schedule(self) -> None:
        """Decode asks for each request whether it may have blocks, and steps."""
        side = self.decode.engine.side
        for life in self.lives:
            if life.allocated or life.aborted:
                continue
            count, later = side.matched_tokens(life.decode, 0)
            if count:
                assert later
                life.allocated = True
                for rank_side in self.decode.sides:
                    for block in life.blocks:
                        rank_side.agent.memory[0][block] = 0
                side.allocated(life.decode, life.blocks, count)
        self.decode.feed(side.orders(Output()))

    def abort(self, pick: int) -> None:
        """Decode's leg is aborted."""
        ready = [o for o in self.lives if not o.aborted and not o.verdict]
        if ready:
            life = ready[pick % len(ready)]
            life.aborted = True
            self.decode.engine.side.finished(life.decode, well=False)

    # -- what happens between them

    def turn(self, rank: int, *, prefill: bool) -> None:
        side = (self.prefill if prefill else self.decode).sides[rank]
        if not prefill or rank not in self.dead:
            side.mover.turn()

    def deliver(self, rank: int) -> None:
        self.networks[rank].deliver()

    def lose(self, rank: int) -> None:
        self.networks[rank].waiting.clear()

    def hold(self, rank: int, *, held: bool) -> None:
        """Writes of this rank take their time."""
        self.prefill.sides[rank].agent.held = held

    def refuse(self, rank: int, *, refusing: bool) -> None:
        """NIXL posts no write of this rank."""
        self.prefill.sides[rank].agent.refusing = refusing

    def spoil(self, rank: int, *, spoiling: bool) -> None:
        agent = self.prefill.sides[rank].agent
        assert isinstance(agent, SpoilingAgent)
        agent.spoiling = spoiling

    def kill(self, rank: int) -> None:
        """A process of prefill ends, and its writes with it."""
        self.dead.add(rank)
        self.decode.sides[rank].agent.known_dead.add("p")

    def report(self) -> None:
        """Both engines end a step."""
        sent, _, _ = self.prefill.report()
        for life in self.lives:
            if life.prefill.request_id in sent:
                assert life.held, "sent twice"
                self._check_source(life)
                life.held = False
        _, received, failed = self.decode.report()
        for life in self.lives:
            if life.decode.request_id in received:
                self._end_load(life, failed=life.decode.request_id in failed)

    def _end_load(self, life: Life, *, failed: bool) -> None:
        assert life.allocated, "a load ends that never began"
        assert not life.verdict, "a load ends twice"
        life.verdict = "failed" if failed else "freed" if life.aborted else "good"
        for rank, side in enumerate(self.decode.sides):
            assert not self._writes(rank, life), f"{life.verdict} under writes of rank {rank}"
            found = [side.agent.memory[0][block] for block in life.blocks]
            good = [_data(rank, life, i) for i in range(POSITIONS)]
            assert life.verdict != "good" or found == good, f"starts on {found} of rank {rank}"

    def _check_source(self, life: Life) -> None:
        for rank in range(len(self.networks)):
            assert not self._writes(rank, life), f"released under writes of rank {rank}"

    def _writes(self, rank: int, life: Life) -> list[Write]:
        """Under way now, from or into this request's blocks."""
        agent = self.prefill.sides[rank].agent
        under_way = [w for w in agent.writes if w.state is WriteState.UNDER_WAY]
        return [w for w in under_way if rank not in self.dead and {*w.targets} & {*life.blocks}]

    # -- the end

    def run(self, rounds: int = 8) -> None:
        """Everybody works, and no time passes."""
        for _ in range(rounds):
            self.schedule()
            self.prefill.feed(self.prefill.engine.idle())
            for rank in range(len(self.networks)):
                self.turn(rank, prefill=True)
                self.turn(rank, prefill=False)
                self.deliver(rank)
            self.report()

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            self.clock.advance(0.25)
            self.run(2)

    def drain(self) -> None:
        """Faults end, and so does everything else: nothing may be left on either end."""
        for rank in range(len(self.networks)):
            self.hold(rank, held=False)
            self.refuse(rank, refusing=False)
        if self.dead:
            for rank in range(len(self.networks)):
                self.kill(rank)
        for pick in range(len(self.lives)):
            self.drop(0) if pick % 2 else None
            for _ in range(POSITIONS):
                self.compute(0)
        self.run()
        self.live(30.0)
        for life in self.lives:
            assert life.verdict or not life.allocated, f"{life} never ends"
            assert life.allocated or life.aborted, f"{life} never gets its blocks"
            self.decode.engine.side.finished(life.decode, well=True)
        self.run()
        assert self.decode.engine.side.open_legs == {}
        assert self.decode.counted.received == self.prefill.counted.sent == {}
        if not self.dead:
            assert self.prefill.engine.side.open_legs == {}
            assert self.prefill.engine.pool.held == {}


def _data(rank: int, life: Life, position: int) -> int:
    return 1 + rank * 1000 + life.number * 10 + position
