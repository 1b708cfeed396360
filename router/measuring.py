"""One router's measurements for scaling, put together from what its parts know.

Capacities are of the workers' own fits and of the window's mean request; a worker that has measured
nothing yet is taken for the mean of the others. What is predicted is for that mean request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from baton.capacity import decode_tokens_per_s, prefill_tokens_per_s
from baton.costs import DecodeCurve
from baton.messages import Role
from baton.settings import Settings
from baton.signals import PoolSignals, RouterSignals
from router.gate import Gate
from router.ledger import Ledger, Life
from router.life import Phase
from router.peer import Peer
from router.planning import Planner
from router.registry import Registry
from router.signals import Mix, Signals, Traffic

_EVERY_S = 0.5


class Measuring:
    """Reads the router's parts, changes none. `look` belongs to the event loop."""

    def __init__(
        self,
        settings: Settings,
        signals: Signals,
        registry: Registry,
        ledger: Ledger,
        planner: Planner,
        gate: Gate,
    ) -> None:
        self._slo = settings.slo
        self._running_max = settings.engine.max_running_requests
        self._signals = signals
        self._registry = registry
        self._ledger = ledger
        self._planner = planner
        self._gate = gate
        self._seen: tuple[float, RouterSignals] | None = None

    def look(self, now: float) -> None:
        """Measures again what was measured some time ago; call it often."""
        if self._seen is None or not 0 <= now - self._seen[0] < _EVERY_S:
            self._seen = now, self.measured(now)

    def seen(self, now: float) -> RouterSignals:
        """What was measured last, for any thread. Workers have been silent for longer since."""
        if self._seen is None:
            return RouterSignals(PoolSignals(), PoolSignals())
        at, signals = self._seen
        return replace(signals, load_age_s=signals.load_age_s + max(now - at, 0.0))

    def measured(self, now: float) -> RouterSignals:
        """Everything, as of now."""
        up = [peer for peer in self._registry.peers() if peer.up]
        waiting = [one for one in self._ledger if one.state.phase is Phase.NEW]
        traffic = self._signals.traffic(now)
        decode, after_s = self._decode(_serving(up, Role.DECODE), waiting, traffic)
        return RouterSignals(
            self._prefill(_serving(up, Role.PREFILL), traffic, after_s, now),
            decode,
            len(waiting),
            max(map(_sending_s, up), default=0.0),
            load_age_s=max((now - (peer.heard_at or now) for peer in up), default=0.0),
        )

    def _prefill(
        self, peers: Sequence[Peer], traffic: Traffic, after_s: float, now: float
    ) -> PoolSignals:
        """`after_s`: from a computed prompt to its first token."""
        mix, kept_s = traffic.mix, self._gate.kept_s
        curves = [curve for peer in peers if (curve := self._planner.costs(peer)[0])]
        rate, predicted = 0.0, None
        if mix and mix.new > 0 and curves:
            rate = fmean(prefill_tokens_per_s(curve, mix.new, mix.cached) for curve in curves)
            work_s = fmean(curve.seconds(mix.new, mix.cached) for curve in curves)
            wait_s = self._planner.ahead(now).wait_s + kept_s / len(peers)
            promise_s = self._slo.ttft_of(round(mix.prompt)) * mix.ttft_stretch
            predicted = (wait_s + work_s + after_s) / promise_s
        return PoolSignals(
            traffic.prompt_tokens_per_s,
            rate,
            kept_s,
            _mean(peer.queue_s(now) for peer in peers) or 0.0,
            traffic.ttft,
            predicted,
            _mean(map(_kv_share, peers)),
        )

    def _decode(
        self, peers: Sequence[Peer], waiting: Iterable[Life], traffic: Traffic
    ) -> tuple[PoolSignals, float]:
        """Also seconds from a computed prompt to its first token, as far as they are known."""
        mix = traffic.mix
        plain = PoolSignals(
            traffic.answer_tokens_per_s,
            attained=traffic.tpot,
            kv_used=_mean(map(_kv_share, peers)),
        )
        known = [(peer, curve) for peer in peers if (curve := self._planner.costs(peer)[1])]
        if mix is None or not known:
            return plain, 0.0
        rate = fmean(self._rate(mix, *one) for one in known)
        step_s = fmean(self._step_s(mix, *one) for one in known)
        transfer_s = fmean(curve.transfer_s(mix.prompt) for _, curve in known)
        queued_s = fmean(self._placeless(mix, peer) for peer in peers) * mix.answer / rate
        full = replace(
            plain,
            worker_tokens_per_s=rate,
            waiting_s=sum(map(_resumed_tokens, waiting)) / rate,
            queued_s=queued_s,
            predicted=step_s / self._tpot_s(mix),
        )
        return full, queued_s + transfer_s + step_s

    def _tpot_s(self, mix: Mix) -> float:
        """What is promised to the mean request."""
        return self._slo.tpot_s * mix.tpot_stretch

    def _rate(self, mix: Mix, peer: Peer, curve: DecodeCurve) -> float:
        kv_tokens, tpot_s = peer.kv_tokens_max, self._tpot_s(mix)
        return decode_tokens_per_s(curve, mix.context, kv_tokens, tpot_s, self._running_max)

    def _step_s(self, mix: Mix, peer: Peer, curve: DecodeCurve) -> float:
        """With one mean request more in the batch."""
        batch = min(peer.standing.batch + 1, self._running_max)
        return curve.decode_step_s(batch, peer.standing.kv_tokens + mix.context)

    def _placeless(self, mix: Mix, peer: Peer) -> float:
        """Requests that wait there for more than their KV: batch or memory have no place."""
        load = peer.load
        room = (1 - load.kv_used) * peer.kv_tokens_max / max(mix.context, 1.0)
        return max(load.waiting - max(min(room, self._running_max - load.running), 0.0), 0.0)


def _serving(peers: Iterable[Peer], role: Role) -> list[Peer]:
    return [peer for peer in peers if peer.info.role is role and peer.open]


def _sending_s(peer: Peer) -> float:
    """For how long it will still be sending KV."""
    return 0.0 if peer.transfer is None else peer.transfer.backlog_s


def _kv_share(peer: Peer) -> float:
    return peer.standing.kv_tokens / max(peer.kv_tokens_max, 1)


def _resumed_tokens(one: Life) -> int:
    """Tokens that an answer still lacks whose worker was lost; nothing else waits for decode."""
    return max(one.request.output_tokens - len(one.sent), 0) if one.sent else 0


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None
