"""What work is expected to cost on each worker, by slot: the workers' own fits, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from baton.costs import (
    DECODE,
    PREFILL,
    TRANSFER,
    DecodeCurve,
    Fit,
    Form,
    PrefillCurve,
    WorkerCosts,
)
from baton.wire import worker_pb2 as pb

_TRUSTED_AFTER = 4
"""Samples before a fit says more than another worker's."""
_TRIED_AGAIN_AFTER_S = 10.0
"""After so long without a lesson a worker is taken to be faster, by half each such time."""
_FASTER_MOST = 0.1
_PRIOR = WorkerCosts().decode_curve()


class Outlook:
    """Costs by slot. A worker that has measured nothing yet is taken for the best measured one.

    A prefill worker that was slow for a while gets no prompts, and learns nothing new. So what it
    taught counts less and less, until it is tried again and says how it is. Decode workers are not
    tried: that would stall their batch.
    """

    def __init__(self) -> None:
        self.curves: list[PrefillCurve] = []
        """Of prefill, one per slot; the same list for as long as this lives."""
        self._costs: dict[int, WorkerCosts] = {}
        self._decode: dict[int, DecodeCurve] = {}
        self._samples: dict[int, int] = {}
        self._taught_at: dict[int, float] = {}
        """When prompts were last computed there, as far as is known here."""
        self._drawn_at = -math.inf
        self._tried: frozenset[int] = frozenset()
        self.ignored = 0
        """Reports of workers that could not be true."""

    def decode(self, slot: int) -> DecodeCurve:
        """What decoding and receiving KV costs there."""
        return self._decode.get(slot, _PRIOR)

    def prefill(self, slot: int) -> PrefillCurve:
        """What a prompt costs there; on workers that hardly compute any, what it costs others."""
        return self.curves[slot] if slot < len(self.curves) else self._typical()

    def measured(self, slot: int) -> tuple[PrefillCurve | None, DecodeCurve | None]:
        """What the worker itself has measured, however long ago; None = not enough yet."""
        costs = self._costs.get(slot)
        if costs is None:
            return None, None
        return (
            costs.curve() if costs.prefill.samples >= _TRUSTED_AFTER else None,
            costs.decode_curve() if costs.decode.samples >= _TRUSTED_AFTER else None,
        )

    def size(self, slots: int) -> None:
        """There are so many slots now."""
        while len(self.curves) < slots:
            self.curves.append(self._typical())

    def at(self, now: float, prefillers: Iterable[int]) -> None:
        """Time has passed; call it often."""
        if not 0 <= now - self._drawn_at < 1.0:
            self._tried = frozenset(prefillers)
            self._redraw(now)

    def heard(self, slot: int, report: pb.Costs, now: float) -> None:
        """Takes over a worker's fits; nonsense is counted and ignored."""
        fits = [_fit(f, m) for f, m in _parts(report)]
        if None in fits:
            self.ignored += 1
            return
        prefill, decode, transfer = (f for f in fits if f is not None)
        self._costs[slot] = known = WorkerCosts(prefill, decode, transfer)
        self._decode[slot] = known.decode_curve()
        if report.prefill.samples != self._samples.get(slot):
            self._taught_at[slot] = now
        self._samples[slot] = report.prefill.samples
        self._redraw(now)

    def forget(self, slot: int) -> None:
        """The worker has left."""
        self._costs.pop(slot, None)
        self._decode.pop(slot, None)
        self._samples.pop(slot, None)
        self._taught_at.pop(slot, None)
        self._redraw(self._drawn_at)

    def errors(self, slot: int) -> dict[str, float]:
        """Relative error of recent predictions there, by kind of work."""
        costs = self._costs.get(slot)
        if costs is None:
            return {}
        fits = {"prefill": costs.prefill, "decode": costs.decode, "transfer": costs.transfer}
        return {kind: fit.relative_error for kind, fit in fits.items() if fit.samples}

    def _redraw(self, now: float) -> None:
        self._drawn_at = now
        typical = self._typical()
        for slot in range(len(self.curves)):
            known = self._samples.get(slot, 0) >= _TRUSTED_AFTER
            self.curves[slot] = self._as_of(slot, now) if known else typical

    def _as_of(self, slot: int, now: float) -> PrefillCurve:
        quiet_s = now - self._taught_at[slot] - _TRIED_AGAIN_AFTER_S
        curve = self._costs[slot].curve()
        if quiet_s <= 0 or slot not in self._tried:
            return curve
        faster = max(0.5 ** (quiet_s / _TRIED_AGAIN_AFTER_S), _FASTER_MOST)
        return PrefillCurve(*(faster * part for part in curve))

    def _typical(self) -> PrefillCurve:
        best = max(self._samples, key=lambda s: self._samples[s], default=None)
        if best is None or self._samples[best] < _TRUSTED_AFTER:
            return WorkerCosts().curve()
        return self._costs[best].curve()


def _parts(report: pb.Costs) -> Sequence[tuple[Form, pb.Fit]]:
    return (PREFILL, report.prefill), (DECODE, report.decode), (TRANSFER, report.transfer)


def _fit(form: Form, message: pb.Fit) -> Fit | None:
    """The fit as a worker reported it; None if it cannot be one."""
    found = tuple(message.coefficients)
    if not found:
        return Fit(form)
    if len(found) != len(form.prior) or not all(math.isfinite(c) and c >= 0 for c in found):
        return None
    fit = Fit(form, found)
    fit.samples = message.samples
    fit.relative_error = message.error if math.isfinite(message.error) else 0.0
    return fit
