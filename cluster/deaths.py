"""Which engines are certain to have ended, and who has yet to hear of it.

Their peers on the same machine find out by themselves; for those on other machines the word of
whoever killed them is the only proof that no write of theirs is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from baton.ids import WorkerId
from baton.messages import WorkerInfo
from cluster.ports import Handle
from cluster.processes import Process

DOUBTS_MAX = 16
KEPT_MAX = 256
"""Deaths remembered. An accusation outlives its cause by seconds, not by so many restarts."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An engine that was given up and may still run, out of reach."""

    agent: str
    handle: Handle
    engine: tuple[Process, ...]
    gap_s: float = 10.0
    """How long to wait before it is killed once more; doubles up to some minutes."""

    def later(self) -> Doubt:
        return replace(self, gap_s=min(2 * self.gap_s, 300.0))


async def end_for_good(handle: Handle, info: WorkerInfo | None, deaths: Deaths) -> None:
    """Ends a worker's processes if they have not ended. A stopped engine does not mind that its
    worker is gone, so it is named itself."""
    engine = tuple(Process(*each) for each in info.engine_processes) if info else ()
    certain = await handle.kill(*engine)
    if info is not None and engine:
        deaths.learn(certain, Doubt(info.transfer_agent, handle, engine))


class Deaths:
    """By transfer agent, the names that engines never share."""

    def __init__(self) -> None:
        self._dead: dict[str, None] = {}
        self._doubts: dict[str, Doubt] = {}
        self._told: dict[WorkerId, tuple[int, set[str]]] = {}

    def learn(self, certain: bool, doubt: Doubt) -> None:
        """Its processes were ended; whether that is certain."""
        if certain:
            self.confirm(doubt.agent)
        else:
            self.doubt(doubt)

    def confirm(self, agent: str) -> None:
        """The engine of this name has ended; nothing happens for one without a name."""
        self._doubts.pop(agent, None)
        if agent:
            self._dead[agent] = None
        while len(self._dead) > KEPT_MAX:
            del self._dead[next(iter(self._dead))]

    def doubt(self, doubt: Doubt) -> None:
        """Whether this engine has ended is not known so far."""
        if doubt.agent:
            self._doubts[doubt.agent] = doubt
        while len(self._doubts) > DOUBTS_MAX:
            del self._doubts[next(iter(self._doubts))]

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Whom to kill once more."""
        return tuple(self._doubts.values())

    def untold(
        self, worker_id: WorkerId, incarnation: int, accused: Iterable[str]
    ) -> tuple[str, ...]:
        """What this start of a worker has to hear: deaths since it was first seen, and those it
        still asks for."""
        known = self._known(worker_id, incarnation)
        asked = set(accused)
        return tuple(agent for agent in self._dead if agent not in known or agent in asked)

    def told(self, worker_id: WorkerId, incarnation: int, agents: Sequence[str]) -> None:
        """It has heard of these."""
        known = self._known(worker_id, incarnation)
        known |= set(agents)
        known &= self._dead.keys()

    def _known(self, worker_id: WorkerId, incarnation: int) -> set[str]:
        start, known = self._told.get(worker_id, (0, set()))
        if start != incarnation:
            # It never met those that were dead before it began.
            known = set(self._dead)
            self._told[worker_id] = (incarnation, known)
        return known
