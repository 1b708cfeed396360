"""Counts what the scaler decided and did, for the metrics of whoever is told. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baton.messages import Role
from cluster.scaling.decision import Reason, Why

BY_HAND = "by_hand"
"""Beside the law's reasons: an operator said so."""
FAULT = "fault"
"""Beside the law's reasons: the law failed, and nothing changed."""
REASONS = (*(reason.value for reason in Reason), BY_HAND, FAULT)
ADD, REMOVE, CHANGE_ROLE = "add", "remove", "change_role"
_HOLDS = (Reason.BLIND.value, FAULT)


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """What was decided for one pool since the controller started."""

    reason: str = ""
    """Why it has the size that is wanted, one of `REASONS`; empty before the first decision."""
    decisions: tuple[tuple[str, int], ...] = ()
    """Reasons and how often they decided."""
    actions: tuple[tuple[str, str, int], ...] = ()
    """An action, its reason, and how many workers it moved."""
    least: int = 0
    most: int = 0
    """Between these the law may choose."""
    gpus: float = 0.0
    """GPUs that the wanted workers take."""

    @property
    def holds(self) -> bool:
        """Whether nothing changes because a measurement is missing, or the law failed."""
        return self.reason in _HOLDS


@dataclass(frozen=True, slots=True)
class ScalingFigures:
    """All figures at one moment."""

    prefill: PoolFigures = PoolFigures()
    decode: PoolFigures = PoolFigures()
    quiet_s: float = 0.0
    """Seconds since the last decision, by the law or by hand, else since the controller's start."""
    gpu_budget: float = 0.0
    """0 = none."""

    def pool(self, role: Role) -> PoolFigures:
        """One of the two."""
        return self.prefill if role is Role.PREFILL else self.decode


class Tally:
    """Belongs to one scaler. Times are those of its clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._reason = dict.fromkeys(Role, "")
        self._decisions: Counter[tuple[Role, str]] = Counter()
        self._actions: Counter[tuple[Role, str, str]] = Counter()

    def decided(self, why: Sequence[Why], now: float) -> None:
        """The law has spoken."""
        self._note({one.role: one.reason.value for one in why}, now)

    def failed(self, now: float) -> None:
        """The law could not be asked."""
        self._note(dict.fromkeys(Role, FAULT), now)

    def ordered(self, now: float) -> None:
        """An operator has spoken."""
        self._note(dict.fromkeys(Role, BY_HAND), now)

    def resized(
        self, before: Mapping[Role, int], after: Mapping[Role, int], moves: Mapping[Role, int]
    ) -> None:
        """Pools have another size wanted; so many workers of a pool go over to the other one."""
        for role in Role:
            came = sum(count for other, count in moves.items() if other is not role)
            new = after[role] - (before[role] - moves.get(role, 0) + came)
            self._act(role, CHANGE_ROLE, moves.get(role, 0))
            self._act(role, ADD, max(new, 0))
            self._act(role, REMOVE, max(-new, 0))

    def pool(self, role: Role, bounds: tuple[int, int] = (0, 0), gpus: float = 0.0) -> PoolFigures:
        """The figures of one pool."""
        return PoolFigures(
            self._reason[role],
            tuple((reason, self._decisions[role, reason]) for reason in REASONS),
            tuple((a, why, n) for (r, a, why), n in sorted(self._actions.items()) if r is role),
            *bounds,
            gpus,
        )

    def quiet_s(self, now: float) -> float:
        """See `ScalingFigures`."""
        return now - self._at

    def _note(self, reasons: Mapping[Role, str], now: float) -> None:
        self._at = now
        self._reason |= reasons
        self._decisions.update(reasons.items())

    def _act(self, role: Role, action: str, workers: int) -> None:
        if workers:
            self._actions[role, action, self._reason[role]] += workers
