"""What the scaling law is told once: settings, promises, and what a worker takes of the budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from baton.messages import Role
from baton.settings import ScalingSettings, SloSettings


@dataclass(frozen=True, slots=True)
class Rules:
    """Settings are checked where they are loaded; GPUs are those of one worker."""

    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    slo: SloSettings = field(default_factory=SloSettings)
    prefill_gpus: float = 0.0
    decode_gpus: float = 0.0

    def bounds(self, role: Role) -> tuple[int, int]:
        """Fewest and most workers of a pool."""
        s = self.scaling
        if role is Role.PREFILL:
            return s.prefill_min_workers, s.prefill_max_workers
        return s.decode_min_workers, s.decode_max_workers

    def clamp(self, role: Role, workers: int) -> int:
        """The nearest count within the bounds."""
        least, most = self.bounds(role)
        return min(max(workers, least), most)

    def within_budget(self, prefill: int, decode: int) -> bool:
        """Whether there are GPUs for so many workers."""
        budget = self.scaling.gpu_budget
        return not budget or prefill * self.prefill_gpus + decode * self.decode_gpus <= budget
