"""Whether a request is disaggregated: prefill on its own worker, or the whole on the decode worker.

The caller supplies predictions for both ways; this weighs them against the two promises. Whole,
the decode worker computes what of the prompt it does not hold, between steps that its batch waits
for: good for TTFT where little is uncached, bad for everybody's TPOT where much is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Division(StrEnum):
    """What was decided, and why."""

    APART = "apart"
    """Disaggregated: both promises hold, or more of them than otherwise."""
    WHOLE_SOONER = "whole_sooner"
    """The decode worker is predicted to answer sooner, and its batch keeps its promise."""
    WHOLE_KEEPS = "whole_keeps"
    """Whole keeps a promise that would be broken apart."""
    WHOLE_ONLY = "whole_only"
    """There is no prefill worker."""
    APART_KEEPS_TPOT = "apart_keeps_tpot"
    """Whole would be sooner, but stalls the batch."""

    @property
    def apart(self) -> bool:
        """Whether a prefill worker takes part."""
        return self in (Division.APART, Division.APART_KEEPS_TPOT)


@dataclass(frozen=True, slots=True)
class Promise:
    """The two service level objectives in seconds."""

    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one way promises: this request's TTFT, and the slowest TPOT it causes in the batch."""

    ttft_s: float
    tpot_s: float


_WORTH = 0.95
"""Whole has to be sooner by some percent: predictions are not better, and flapping costs caches."""


def divide(apart: Forecast | None, whole: Forecast, promise: Promise) -> Division:
    """The better way; `apart` is None without a prefill worker."""
    if apart is None:
        return Division.WHOLE_ONLY
    sooner = whole.ttft_s < apart.ttft_s * _WORTH
    if whole.tpot_s > promise.tpot_s >= apart.tpot_s:
        # The one who would wait longer for a first token is alone, those who would stall are many.
        return Division.APART_KEEPS_TPOT if sooner else Division.APART
    kept_apart, kept_whole = _kept(apart, promise), _kept(whole, promise)
    if kept_whole > kept_apart:
        return Division.WHOLE_KEEPS
    if sooner and kept_whole == kept_apart:
        return Division.WHOLE_SOONER
    return Division.APART_KEEPS_TPOT if sooner else Division.APART


def batch_tpot_s(step_s: float, prefill_s: float, output_tokens: float, chunks: int) -> float:
    """Time per output token of a batch that computes a prompt between its steps.

    The prompt's time is spread over the steps of a typical output, but not over fewer than the
    chunks it is computed in: each stalls one step.
    """
    return step_s + prefill_s / max(output_tokens, chunks, 1)


def _kept(forecast: Forecast, promise: Promise) -> int:
    return (forecast.ttft_s <= promise.ttft_s) + (forecast.tpot_s <= promise.tpot_s)
