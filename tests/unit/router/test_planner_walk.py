"""Whatever workers, clients and clocks do: every request ends once, and nothing is left behind."""

from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from baton.errors import BatonError
from baton.messages import WorkerState
from baton.wire import worker_pb2 as pb
from router import flow
from tests.unit.router.fakes import Scene, member
from tests.unit.router.planner_kit import COSTS, D2, P0, P1, D, blocks, prompt, scene_of

ALL = {one.worker_id: one for one in (P0, P1, D, D2)}
NAMES = st.sampled_from(sorted(ALL))
ENDS = ["worker_full", "engine_failed", "transfer_failed", "draining", "prompt_too_long"]


class NoTasks:
    """There is no event loop here; closing links is all that the heart would do in one."""

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        coroutine.close()


class Walk(RuleBasedStateMachine):
    """A heart with Baton's policy, and workers that do anything."""

    scene: Scene

    @initialize(
        ask=st.sampled_from(["auto", "always", "never"]),
        policy=st.sampled_from(["affinity", "affinity", "round_robin"]),
        ahead_s=st.sampled_from([0.1, 5.0]),
    )
    def begin(self, ask: str, policy: str, ahead_s: float) -> None:
        self.scene = scene_of(
            ask=ask,
            policy=policy,
            queue_ahead_s=ahead_s,
            max_inflight_requests=20,
            request_timeout_s=30.0,
        )
        self.scene.heart._tasks = NoTasks()
        self.scene.view(*map(member, ALL.values()))
        self.number = 0
        self.asked: list[str] = []
        self.ended: dict[str, int] = {}

    @rule(seed=st.integers(0, 3), tokens=st.sampled_from([8, 700, 2100]), resumable=st.booleans())
    def submit(self, seed: int, tokens: int, resumable: bool) -> None:
        self.number += 1
        name = f"r{self.number}"
        try:
            self.scene.submit(name, resumable=resumable, **prompt(seed, tokens))
        except BatonError:
            return
        self.asked.append(name)

    @rule(name=NAMES, queue_s=st.sampled_from([0.0, 0.3, 9.0]), full=st.booleans())
    def frame(self, name: str, queue_s: float, full: bool) -> None:
        news = {"costs": COSTS}
        if full:
            news["cache"] = pb.CacheDelta(number=1, stored=blocks(1), full=True)
        self.scene.frame(name, news=news, queue_s=queue_s)

    @rule(name=NAMES, number=st.integers(0, 4))
    def odd_cache(self, name: str, number: int) -> None:
        self.scene.frame(name, news={"cache": pb.CacheDelta(number=number, stored=blocks(2)[:3])})

    @rule(name=NAMES, queue_s=st.sampled_from([0.0, 2.0]), refused=st.booleans())
    def answer_probes(self, name: str, queue_s: float, refused: bool) -> None:
        link = self.scene.links.get(name)
        for probe in link.probes[-3:] if link else []:
            said = pb.Answer(
                leg_id=probe.leg_id, queue_s=queue_s, refused="draining" if refused else ""
            )
            self.scene.frame(name, news={"answers": [said]})

    def _legs(self, name: str) -> list[str]:
        link = self.scene.links.get(name)
        return [s.leg_id for s in link.submits[-6:]] if link else []

    @rule(name=NAMES, pick=st.integers(0, 5))
    def prefilled(self, name: str, pick: int) -> None:
        for leg in self._legs(name)[pick : pick + 1]:
            request = leg.split(".", maxsplit=1)[0]
            if not leg.endswith(".p"):
                self.scene.front.tokens[request] = [*self.scene.front.sent(request), 7]
            self.scene.frame(name, prefilled=[leg])

    @rule(name=NAMES, pick=st.integers(0, 5))
    def finished(self, name: str, pick: int) -> None:
        peer = self.scene.heart._registry.get(name)
        for leg in self._legs(name)[pick : pick + 1]:
            request = None if peer is None else peer.answering.get(leg)
            if request is not None:
                self.ended[request] = self.ended.get(request, 0) + 1
                self.scene.frame(name, prefilled=[leg], done=leg)

    @rule(name=NAMES, pick=st.integers(0, 5), reason=st.sampled_from(ENDS))
    def leg_ends(self, name: str, pick: int, reason: str) -> None:
        for leg in self._legs(name)[pick : pick + 1]:
            self.scene.frame(name, ended=[(leg, reason, 1.0)])

    @rule(name=NAMES)
    def lose(self, name: str) -> None:
        self.scene.lose(name)

    @rule(states=st.lists(st.sampled_from(WorkerState), min_size=4, max_size=4))
    def view(self, states: list[WorkerState]) -> None:
        members = zip(ALL.values(), states, strict=True)
        self.scene.view(*(member(one, state) for one, state in members))

    @rule(pick=st.integers(0, 30))
    def leave(self, pick: int) -> None:
        inside = [r for r in self.asked if r in self.scene.heart._ledger]
        for request in inside[pick : pick + 1]:
            self.ended[request] = self.ended.get(request, 0) + 1
            self.scene.heart.abort([request])

    @rule(seconds=st.sampled_from([0.0, 0.06, 0.6, 1.5, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.scene.clock.advance(seconds)
        self.scene.heart.tick(self.scene.clock.now())

    @invariant()
    def books_agree(self) -> None:
        heart = self.scene.heart
        for one in heart._ledger:
            flow.check_invariants(one.state)
        inside = {one.request.request_id for one in heart._ledger}
        for peer in heart._registry.peers():
            assert {*peer.answering.values(), *peer.prefilling.values(), *peer.promised} <= inside
        assert set(heart._placing._waiting) <= inside
        if (openings := getattr(heart._planner, "_openings", None)) is not None:
            assert set(openings._numbers) <= inside
            assert len(openings._by_number) == len(openings._numbers)
            kept = heart._planner._desk._room._kept
            assert set(kept) <= set(openings._by_number)
            asked = {q.request.number for q in heart._planner._questions._open.values()}
            assert asked <= set(openings._by_number)
            assert not asked & set(kept), "asked about and kept at once"
            assert set(heart._planner._desk._rounds) <= set(openings._by_number)

    def teardown(self) -> None:
        if not hasattr(self, "scene"):
            return
        scene = self.scene
        assert scene.sample("baton_router_faults_total") == 0
        scene.clock.advance(40)
        for name in ALL:
            scene.frame(name)
        scene.heart.tick(scene.clock.now())
        assert scene.heart.inflight == 0
        failed = scene.front.reasons
        for request in self.asked:
            ends = self.ended.get(request, 0) + (request in failed)
            assert ends == 1, f"{request} ended {ends} times: {scene.heart.story(request)}"


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
