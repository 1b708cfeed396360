"""What the scaling law is shown. Every measurement comes with its age; None = not measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from baton.messages import Role


@dataclass(frozen=True, slots=True)
class Signal:
    """One measurement, and for how many seconds it has been true."""

    value: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolSight:
    """One pool: counts of workers, and what routers and workers measured.

    Arrivals and the capacity of a worker are in tokens of this pool's own work: uncached tokens of
    prompts for prefill, tokens of answers for decode (`baton.capacity` converts fitted costs).
    """

    ready: int
    starting: int
    """Asked for and not ready yet, workers on their way from the other pool included."""
    draining: int = 0
    arriving_tokens_per_s: Signal | None = None
    worker_tokens_per_s: Signal | None = None
    """What one worker of this pool does within the promises."""
    backlog_s: Signal | None = None
    """Seconds per ready worker of work that waits for this pool, in workers and in routers."""
    attained: Signal | None = None
    """The promised percentile over its promise, 1 = just kept: TTFT for prefill, TPOT for decode.
    None when nobody was served in the window."""
    predicted: Signal | None = None
    """The same for a request that came now, as the routers predict it."""
    kv_used: Signal | None = None
    """Share of KV memory held or promised, the mean of the ready workers."""

    unplaced: int = 0
    """Of those that start, the ones for which there is no machine so far."""

    @property
    def provisioned(self) -> int:
        """Workers that serve or will: those that drain are no more."""
        return self.ready + self.starting

    @property
    def load(self) -> float:
        """Workers that the arriving work keeps busy all the time; 0 when that is unknown."""
        arriving, one = self.arriving_tokens_per_s, self.worker_tokens_per_s
        return arriving.value / one.value if arriving and one and one.value > 0 else 0.0

    def signals(self) -> Iterator[tuple[str, Signal | None]]:
        """All measurements by name."""
        for name in _SIGNALS:
            yield name, getattr(self, name)


_SIGNALS = (
    "arriving_tokens_per_s",
    "worker_tokens_per_s",
    "backlog_s",
    "attained",
    "predicted",
    "kv_used",
)


@dataclass(frozen=True, slots=True)
class ScalingView:
    """What is decided on."""

    prefill: PoolSight
    decode: PoolSight
    startup_s: float
    """From asking for a worker until it serves, as measured lately, else as set."""
    transfer_backlog_s: Signal | None = None
    """The longest time a prefill worker will still be sending KV."""
    waiting: int = 0
    """Requests that no worker has, in all routers."""

    def pool(self, role: Role) -> PoolSight:
        """One of the two."""
        return self.prefill if role is Role.PREFILL else self.decode
