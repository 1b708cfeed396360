"""Baton's own scaling law as a controller of the cluster model: the same code as in production.

Turns what the simulated controller is shown into the law's view: fitted costs into what a worker
can do, windows into rates, percentiles into parts of the promise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from baton.capacity import decode_tokens_per_s, prefill_tokens_per_s
from baton.costs import PrefillCurve, WorkerCosts
from cluster.scaling.law import decide
from cluster.scaling.memory import Memory
from cluster.scaling.rules import Rules
from cluster.scaling.view import PoolSight, ScalingView, Signal
from simulator.pairing import costs_of
from simulator.plugs import ClusterSight, PoolView, Wanted
from simulator.results import percentile
from simulator.rules import ClusterRules

_FULL = 0.9
"""Share of KV memory from which on what routers hold waits for decode."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean tokens of a request, as last seen: routers learn them from what they serve."""

    prompt: float = 1000.0
    uncached_share: float = 1.0
    answer: float = 350.0

    def seen(self, view: ClusterSight) -> Shape:
        """Takes in the window; what it does not show stays."""
        return Shape(
            view.input_tokens / view.arrivals if view.arrivals else self.prompt,
            view.uncached_tokens / view.started_tokens
            if view.started_tokens
            else self.uncached_share,
            view.finished_tokens / view.finished if view.finished else self.answer,
        )

    @property
    def uncached(self) -> float:
        """Of a prompt."""
        return self.prompt * self.uncached_share

    @property
    def context(self) -> float:
        """Prompt and answer so far, on average over the answer."""
        return self.prompt + self.answer / 2


@dataclass(frozen=True, slots=True)
class Kept:
    """What is carried from round to round."""

    shape: Shape = field(default_factory=Shape)
    memory: Memory = field(default_factory=Memory)


class Scaler:
    """A `plugs.Controller` that asks Baton's law."""

    def __init__(self, cluster: ClusterRules, rules: Rules) -> None:
        self._cluster = cluster
        self._rules = rules
        self._costs: WorkerCosts = costs_of(cluster)

    def decide(self, view: ClusterSight, memory: object, now: float) -> tuple[Wanted, Kept]:
        """What the law says."""
        kept = memory if isinstance(memory, Kept) else Kept()
        shape = kept.shape.seen(view)
        said = decide(self.seen(view, shape), kept.memory, now, self._rules)
        text = "; ".join(why.text for why in said.why)
        wanted = Wanted(said.prefill, said.decode, said.to_decode, said.to_prefill, text)
        return wanted, Kept(shape, said.memory)

    def seen(self, view: ClusterSight, shape: Shape) -> ScalingView:
        """The law's view. Measurements of the model have no age."""
        per_s = view.arrivals / view.window_s
        prefill_one, decode_one = self.capacities(shape)
        held_for_prefill, held_for_decode = self._held(view)
        queue_s = _mean(view.prefill.backlog_s)
        queue_s += held_for_prefill / prefill_one / max(view.prefill.ready, 1)
        waiting = sum(view.decode.waiting) + held_for_decode
        wait_s = waiting * shape.answer / decode_one / max(view.decode.ready, 1)
        ttft_s, tpot_s = self._predicted(view, shape, queue_s + wait_s)
        slo = self._rules.slo
        return ScalingView(
            PoolSight(
                view.prefill.ready,
                view.prefill.starting,
                view.prefill.draining,
                Signal(per_s * shape.uncached),
                Signal(prefill_one),
                Signal(queue_s),
                self._attained(view.prefill, slo.ttft_of(int(shape.prompt))),
                Signal(ttft_s / slo.ttft_of(int(shape.prompt))),
            ),
            PoolSight(
                view.decode.ready,
                view.decode.starting,
                view.decode.draining,
                Signal(per_s * shape.answer),
                Signal(decode_one),
                Signal(wait_s),
                self._attained(view.decode, slo.tpot_s),
                Signal(tpot_s / slo.tpot_s),
                Signal(_mean(view.decode.kv_share)),
            ),
            view.startup_s,
            Signal(view.transfer_backlog_s),
            view.unplaced,
        )

    def capacities(self, shape: Shape) -> tuple[float, float]:
        """Tokens per second of one prefill and one decode worker."""
        curve, engine = self._costs.curve(), self._cluster.engine
        new, cached = shape.uncached, shape.prompt - shape.uncached
        # Prompts share an engine step, which pays its fixed part once.
        together = max(engine.max_batched_tokens / max(new, 1.0), 1.0)
        curve = PrefillCurve(curve.fixed_s / together, curve.token_s, curve.pair_s)
        return (
            prefill_tokens_per_s(curve, new, cached),
            decode_tokens_per_s(
                self._costs.decode_curve(),
                shape.context,
                engine.kv_tokens * (1 - engine.headroom),
                self._rules.slo.tpot_s,
                engine.max_running,
            ),
        )

    def _held(self, view: ClusterSight) -> tuple[float, float]:
        """What routers hold: tokens for prefill, or requests for decode when its memory is full."""
        if view.decode.kv_share and min(view.decode.kv_share) >= _FULL:
            return 0.0, float(view.unplaced)
        return float(view.unplaced_tokens), 0.0

    def _predicted(self, view: ClusterSight, shape: Shape, wait_s: float) -> tuple[float, float]:
        batch, kv = _mean(view.decode.batch), _mean(view.decode.kv_share)
        step_s = self._costs.decode_step_s(max(batch, 1.0), kv * self._cluster.engine.kv_tokens)
        new, cached = shape.uncached, shape.prompt - shape.uncached
        return wait_s + self._costs.prefill_s(new, cached) + step_s, step_s

    def _attained(self, pool: PoolView, promise_s: float) -> Signal | None:
        if not pool.latency_s:
            return None
        return Signal(percentile(sorted(pool.latency_s), self._rules.slo.percentile) / promise_s)


def _mean(values: tuple[float, ...] | tuple[int, ...]) -> float:
    return sum(values) / len(values) if values else 0.0
