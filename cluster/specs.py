"""What is run as an actor, and what it needs. Knows nothing of Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.placing import needs_of


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """What to run, with which resources. `env` is set before the class is imported."""

    cls: type
    args: tuple[object, ...] = ()
    cpus: float = 0.0
    gpus: float = 0.0
    accelerator_type: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    pool: str = ""
    """Whose other actors count when a node is chosen for it; empty = Ray chooses."""
    spread: bool = False
    """Whether the actors of its pool go to as many nodes as there are."""
    here: bool = False
    """Whether it is of use on this machine alone."""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> Mapping[str, float]:
        """What it takes from its node, by Ray's names."""
        return needs_of(self.cpus, self.gpus, self.accelerator_type, self.resources)
