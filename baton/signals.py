"""What one router measured of the pools: what scaling needs to know, small enough to be sent often.

Several routers share the load: arrivals and waiting work add up over them, samples are put
together, and of what they say about the same workers one says as much as all.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES_MAX = 256


@dataclass(frozen=True, slots=True)
class PoolSignals:
    """One pool. Its work is uncached tokens of prompts, or tokens of answers."""

    arriving_tokens_per_s: float = 0.0
    """That came to this router, on average over the window."""
    worker_tokens_per_s: float = 0.0
    """What one worker does within the promises, by fitted costs and the window's mix of requests;
    0 = not known yet."""
    waiting_s: float = 0.0
    """Seconds of one worker's work that waits in this router."""
    queued_s: float = 0.0
    """Seconds of work that waits in the workers, the mean of those that are linked."""
    attained: tuple[float, ...] = ()
    """TTFT (of prefill) or TPOT (of decode) over its promise, of the window's last SAMPLES_MAX
    requests; 1 = just kept."""
    predicted: float | None = None
    """The same for a request of typical length that came now; None = not known."""
    kv_used: float | None = None
    """Share of KV memory held or promised, the mean of the linked workers; None = none is."""


@dataclass(frozen=True, slots=True)
class RouterSignals:
    """What one router measured."""

    prefill: PoolSignals
    decode: PoolSignals
    waiting: int = 0
    """Requests that no worker has."""
    transfer_backlog_s: float = 0.0
    """The longest time for which a prefill worker will still be sending KV; 0 where unknown."""
    load_age_s: float = 0.0
    """For how long the worker that was silent longest has said nothing."""
