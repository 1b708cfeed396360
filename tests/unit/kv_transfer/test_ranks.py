"""Engines of several ranks: a load is good once every rank's is, and over once every rank's is."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kv_transfer.scheduling import SchedulingSide
from tests.unit.kv_transfer.ranks import POSITIONS, Counted, World

PICK, RANK = st.integers(0, 7), st.integers(0, 2)


class Ranks(RuleBasedStateMachine):
    """Hypothesis chooses what each rank does, and when."""

    world: World

    @initialize(ranks=st.integers(1, 3))
    def begin(self, ranks: int) -> None:
        self.world, self.ranks = World(ranks), ranks

    @rule()
    def submit(self) -> None:
        self.world.submit()

    @rule(pick=PICK, count=st.integers(1, POSITIONS))
    def compute(self, pick: int, count: int) -> None:
        for _ in range(count):
            self.world.compute(pick)

    @rule(pick=PICK, prefill=st.booleans())
    def end(self, pick: int, prefill: bool) -> None:
        (self.world.drop if prefill else self.world.abort)(pick)

    @rule()
    def schedule(self) -> None:
        self.world.schedule()

    @rule(rank=RANK, prefill=st.booleans())
    def turn(self, rank: int, prefill: bool) -> None:
        self.world.turn(rank % self.ranks, prefill=prefill)

    @rule(rank=RANK)
    def deliver(self, rank: int) -> None:
        self.world.deliver(rank % self.ranks)

    @rule(rank=RANK, fault=st.sampled_from(["lose", "hold", "refuse", "spoil", "kill"]))
    def disturb(self, rank: int, fault: str) -> None:
        rank %= self.ranks
        if fault in ("lose", "kill"):
            getattr(self.world, fault)(rank)
        elif fault == "hold":
            self.world.hold(rank, held=True)
        elif fault == "refuse":
            self.world.refuse(rank, refusing=True)
        else:
            self.world.spoil(rank, spoiling=True)

    @rule(rank=RANK)
    def mend(self, rank: int) -> None:
        self.world.hold(rank % self.ranks, held=False)
        self.world.refuse(rank % self.ranks, refusing=False)

    @rule()
    def report(self) -> None:
        self.world.report()

    @rule(rounds=st.integers(1, 3))
    def run_a_while(self, rounds: int) -> None:
        self.world.run(rounds)

    @rule(seconds=st.sampled_from([0.25, 2.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.world.live(seconds)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.drain()


Ranks.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True
)
TestRanks = Ranks.TestCase


def computed(ranks: int = 2) -> World:
    """A request whose prompt is computed, and whose blocks on decode are registered."""
    world = World(ranks)
    world.submit()
    world.compute(0)
    world.run()
    assert world.lives[0].allocated
    for _ in range(1, POSITIONS):
        world.compute(0)
    return world


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_all_ranks_hand_over_their_parts(ranks: int) -> None:
    world = computed(ranks)
    world.run()
    assert world.lives[0].verdict == "good"
    assert all(side.agent.writes for side in world.prefill.sides)
    world.drain()


@pytest.mark.parametrize("late", [0, 1])
def test_a_load_waits_for_the_last_rank(late: int) -> None:
    world = computed()
    world.hold(late, held=True)
    world.run()
    assert world.lives[0].verdict == ""
    assert world.lives[0].held, "prefill's blocks are not sent yet either"
    world.hold(late, held=False)
    world.run()
    assert (world.lives[0].verdict, world.lives[0].held) == ("good", False)
    world.drain()


@pytest.mark.parametrize("fault", ["refuse", "spoil", "kill"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_fails_the_load_without_waiting_for_time(fault: str, rank: int) -> None:
    world = World()
    world.submit()
    world.compute(0)
    world.run()
    broken = {
        "refuse": lambda: world.refuse(rank, refusing=True),
        "spoil": lambda: world.spoil(rank, spoiling=True),
        "kill": lambda: world.kill(rank),
    }
    broken[fault]()
    world.compute(0)
    world.live(1.0)
    assert world.lives[0].verdict == "failed"
    world.drain()


def test_blocks_stay_fenced_until_every_rank_has_proof() -> None:
    world = computed()
    world.hold(1, held=True)
    world.run()
    world.abort(0)
    world.drop(0)
    world.live(20.0)
    assert world.lives[0].verdict == ""
    assert world.decode.sides[0].mover.report().fenced_blocks == 0
    assert world.decode.sides[1].mover.report().fenced_blocks == POSITIONS
    world.hold(1, held=False)
    world.live(6.0)
    assert world.lives[0].verdict == "freed"
    world.drain()


def test_the_death_of_one_rank_is_no_proof_for_another() -> None:
    world = computed()
    world.hold(0, held=True)
    world.hold(1, held=True)
    world.run()
    world.kill(1)
    world.live(15.0)
    assert world.lives[0].verdict == ""
    world.kill(0)
    world.live(0.5)
    assert world.lives[0].verdict == "failed"


def test_a_proof_that_got_lost_is_given_again_by_the_rank_that_owes_it() -> None:
    world = World()
    world.submit()
    world.compute(0)
    world.run()
    world.drop(0)
    world.turn(1, prefill=True)
    world.lose(1)
    world.run()
    assert world.lives[0].verdict == "failed"
    world.drain()


def test_an_abort_frees_both_ends_on_all_ranks_at_once() -> None:
    world = World(3)
    world.submit()
    world.compute(0)
    world.run()
    world.abort(0)
    world.drop(0)
    world.run()
    assert (world.lives[0].verdict, world.lives[0].held) == ("freed", False)
    world.drain()


# --- the tests find what they are for -------------------------------------------------------------


def test_counting_any_rank_instead_of_all_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "add", lambda self, counts, request_ids: request_ids)
    world = computed()
    world.hold(1, held=True)
    with pytest.raises(AssertionError, match="rank 1"):
        world.run()


def test_ranks_that_are_not_told_of_a_failure_wait_for_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SchedulingSide, "failed", lambda self, request_id: None)
    world = World()
    world.submit()
    world.compute(0)
    world.run()
    world.refuse(0, refusing=True)
    world.compute(0)
    world.live(1.0)
    assert world.lives[0].verdict == ""
