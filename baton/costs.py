"""What work costs on a worker: fitted online from what its requests really took.

Recursive least squares with forgetting (an old sample counts half after about seventy new ones),
coefficients kept within bounds, outliers cut. The forms: prefill c0 + c1·new + c2·new·(cached +
new/2), decode step d0 + d1·batch + d2·KV tokens, transfer t0 + t1·tokens. The shell supplies each
measurement; the prior comes from a profile or from another worker of the same kind. Nothing may
depend on an error below some percent; the tracked error says how far to trust a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_FORGETTING = 0.99
_OUTLIER = 4.0
"""A sample further off than so many typical errors is pulled to that distance."""
_TRUSTED_AFTER = 8
"""Samples before outliers are told from ignorance."""
_ERROR_MEMORY = 0.95
_SECONDS_MAX = 1e5
_SCALED_MAX = 1e5
"""In units of a form's scale, so a hundred million tokens."""
_WEIGHT_MAX = 1e3
"""Seconds per scale of a feature: no step and no prompt of so many tokens takes longer."""
_COVARIANCE_MAX = 1e6
"""Forgetting without new information would let the covariance grow without bound."""


@dataclass(frozen=True, slots=True)
class Form:
    """A linear form: names the prior, and the scale of each feature so that the fit is stable."""

    prior: tuple[float, ...]
    scale: tuple[float, ...]


PREFILL = Form(prior=(0.010, 0.16e-3, 0.0), scale=(1.0, 1e3, 1e7))
DECODE = Form(prior=(0.010, 0.1e-3, 0.0), scale=(1.0, 1e1, 1e5))
TRANSFER = Form(prior=(0.002, 1e-6), scale=(1.0, 1e4))


class Fit:
    """One online fit. Owned by one caller; `predict` is pure."""

    def __init__(self, form: Form, prior: Sequence[float] | None = None) -> None:
        self._scale = form.scale
        start = form.prior if prior is None else prior
        self._weights = [c * s for c, s in zip(start, form.scale, strict=True)]
        size = len(self._weights)
        self._covariance = [[float(i == j) for j in range(size)] for i in range(size)]
        self.samples = 0
        self.ignored = 0
        """Measurements that could not be true: negative, not finite, or beyond all bounds."""
        self.relative_error = 0.0
        """Of the predictions made before each measurement, recent ones counting more."""

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In the units of the form."""
        return tuple(w / s for w, s in zip(self._weights, self._scale, strict=True))

    def predict(self, features: Sequence[float]) -> float:
        """Seconds, never negative."""
        return max(self._sum(self._scaled(features)), 0.0)

    def learn(self, features: Sequence[float], seconds: float) -> None:
        """One measurement. Nonsense is counted and ignored."""
        x = self._scaled(features)
        if not (0 < seconds < _SECONDS_MAX and all(0 <= f < _SCALED_MAX for f in x)):
            self.ignored += 1
            return
        predicted = self._sum(x)
        off = seconds - predicted
        self._track(abs(off) / seconds)
        if self.samples > _TRUSTED_AFTER:
            limit = _OUTLIER * max(self.relative_error, 0.05) * max(predicted, seconds * 0.1)
            off = min(max(off, -limit), limit)
        self._update(x, off)

    def _track(self, error: float) -> None:
        keep = min(_ERROR_MEMORY, self.samples / (self.samples + 1))
        self.relative_error = keep * self.relative_error + (1 - keep) * min(error, 10.0)
        self.samples += 1

    def _update(self, x: list[float], off: float) -> None:
        p = self._covariance
        px = [sum(a * b for a, b in zip(row, x, strict=True)) for row in p]
        gain = 1.0 / (_FORGETTING + sum(a * b for a, b in zip(x, px, strict=True)))
        self._weights = [w + v * gain * off for w, v in zip(self._weights, px, strict=True)]
        grown = sum(row[i] for i, row in enumerate(p)) < _COVARIANCE_MAX
        keep = _FORGETTING if grown else 1.0
        size = range(len(x))
        self._covariance = [[(p[i][j] - px[i] * px[j] * gain) / keep for j in size] for i in size]
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        """No negative weights: the others take over what one at its bound cannot say.

        To cut it off alone would leave their share of the correction without its counterpart;
        where features hardly vary that grows without bound.
        """
        p = self._covariance
        for _ in self._weights:
            worst = min(range(len(p)), key=self._weights.__getitem__)
            if self._weights[worst] >= 0 or p[worst][worst] <= 0:
                break
            back = self._weights[worst] / p[worst][worst]
            self._weights = [w - row[worst] * back for w, row in zip(self._weights, p, strict=True)]
        self._weights = [min(max(w, 0.0), _WEIGHT_MAX) for w in self._weights]

    def _scaled(self, features: Sequence[float]) -> list[float]:
        return [f / s for f, s in zip(features, self._scale, strict=True)]

    def _sum(self, x: list[float]) -> float:
        return sum(w * v for w, v in zip(self._weights, x, strict=True))


@dataclass(slots=True)
class WorkerCosts:
    """The three fits of one worker."""

    prefill: Fit = field(default_factory=lambda: Fit(PREFILL))
    decode: Fit = field(default_factory=lambda: Fit(DECODE))
    transfer: Fit = field(default_factory=lambda: Fit(TRANSFER))

    def prefill_s(self, new: float, cached: float) -> float:
        return self.prefill.predict(prefill_features(new, cached))

    def decode_step_s(self, batch: float, kv_tokens: float) -> float:
        return self.decode.predict((1.0, batch, kv_tokens))

    def transfer_s(self, tokens: float) -> float:
        return self.transfer.predict((1.0, tokens))

    def curve(self) -> PrefillCurve:
        """The prefill fit frozen, for many predictions at one moment."""
        return PrefillCurve(*self.prefill.coefficients)

    def decode_curve(self) -> DecodeCurve:
        """The decode and transfer fits frozen."""
        return DecodeCurve(*self.decode.coefficients, *self.transfer.coefficients)


class PrefillCurve(NamedTuple):
    """Prefill time as a function, per worker."""

    fixed_s: float
    token_s: float
    pair_s: float = 0.0
    """Per new token and token of context before it."""

    def seconds(self, new: float, cached: float) -> float:
        return self.fixed_s + new * (self.token_s + self.pair_s * (cached + new / 2))


class DecodeCurve(NamedTuple):
    """Decode and transfer times as functions, per worker."""

    fixed_s: float
    request_s: float
    token_s: float
    transfer_fixed_s: float
    transfer_token_s: float

    def decode_step_s(self, batch: float, kv_tokens: float) -> float:
        """One step of a batch that attends to so many tokens of KV."""
        return self.fixed_s + self.request_s * batch + self.token_s * kv_tokens

    def transfer_s(self, tokens: float) -> float:
        """Moving the KV of so many tokens."""
        return self.transfer_fixed_s + self.transfer_token_s * tokens


def prefill_features(new: float, cached: float) -> tuple[float, float, float]:
    """What the prefill form is linear in."""
    return 1.0, new, new * (cached + new / 2)


def ttft_s(queue_s: float, prefill_s: float, transfer_s: float = 0.0, hidden: float = 1.0) -> float:
    """Predicted time to the first token; `hidden` is the share of the transfer that prefill covers.

    A connector that pushes while the prompt is computed hides all but the last chunk.
    """
    return queue_s + prefill_s + transfer_s * (1 - hidden)
