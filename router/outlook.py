"""What work is expected to cost on each worker, by slot: the workers' own fits, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
_PRIOR = WorkerCosts().decode_curve()


class Outlook:
    """Costs by slot. A worker that has measured nothing yet is taken for the best measured one."""

    def __init__(self) -> None:
        self.curves: list[PrefillCurve] = []
        """Of prefill, one per slot; the same list for as long as this lives."""
        self._costs: dict[int, WorkerCosts] = {}
        self._decode: dict[int, DecodeCurve] = {}
        self._samples: dict[int, int] = {}
        self.ignored = 0
        """Reports of workers that could not be true."""

    def decode(self, slot: int) -> DecodeCurve:
        """What decoding and receiving KV costs there."""
        return self._decode.get(slot, _PRIOR)

    def prefill(self, slot: int) -> PrefillCurve:
        """What a prompt costs there; on workers that hardly compute any, what it costs others."""
        return self.curves[slot] if slot < len(self.curves) else self._typical()

    def size(self, slots: int) -> None:
        """There are so many slots now."""
        while len(self.curves) < slots:
            self.curves.append(self._typical())

    def heard(self, slot: int, report: pb.Costs) -> None:
        """Takes over a worker's fits; nonsense is counted and ignored."""
        fits = [_fit(f, m) for f, m in _parts(report)]
        if None in fits:
            self.ignored += 1
            return
        prefill, decode, transfer = (f for f in fits if f is not None)
        self._costs[slot] = known = WorkerCosts(prefill, decode, transfer)
        self._decode[slot] = known.decode_curve()
        self._samples[slot] = report.prefill.samples
        self._redraw()

    def forget(self, slot: int) -> None:
        """The worker has left."""
        self._costs.pop(slot, None)
        self._decode.pop(slot, None)
        self._samples.pop(slot, None)
        self._redraw()

    def errors(self, slot: int) -> dict[str, float]:
        """Relative error of recent predictions there, by kind of work."""
        costs = self._costs.get(slot)
        if costs is None:
            return {}
        fits = {"prefill": costs.prefill, "decode": costs.decode, "transfer": costs.transfer}
        return {kind: fit.relative_error for kind, fit in fits.items() if fit.samples}

    def _redraw(self) -> None:
        typical = self._typical()
        for slot in range(len(self.curves)):
            known = self._samples.get(slot, 0) >= _TRUSTED_AFTER
            self.curves[slot] = self._costs[slot].curve() if known else typical

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
