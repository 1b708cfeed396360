"""The time model of one engine: prefill, decode steps, and both in one iteration.

Prefill of `new` tokens after `cached` ones takes c0 + c1*new + c2*new*(cached + new/2) + c3*cached,
and never less than a floor: a small prompt costs what launching a forward pass costs. c2 is the
attention of new tokens over all before them. c3 is work per prompt token that a cache hit does not
save (the host hashes and copies all of the prompt); without it the model misses small additions to
long cached prefixes by up to 27 %.

A decode step takes the larger of two lines in the batch size (weights have to be read; then
arithmetic counts) plus the reading of all KV: "max-of-two-lines in batch plus c*KV tokens".

An iteration with both takes the decode step plus the variable part of the prefill: the fixed part
is paid once. No measurement backs that sum; it errs towards slow mixed iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """Coefficients in seconds. Raises ValueError for a negative or infinite one."""

    prefill_floor_s: float
    prefill_fixed_s: float
    prefill_token_s: float
    prefill_pair_s: float
    """Per pair of a new token and one before it."""
    prefill_cached_s: float
    step_low_s: float
    step_low_request_s: float
    step_high_s: float
    step_high_request_s: float
    step_kv_token_s: float
    kv_bytes_per_token: int = 131_072

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{field.name} has to be finite and at least 0: {value}")
        if not self.step_s(1, 1) > 0:
            raise ValueError("a decode step has to take time")

    def slowed(self, factor: float) -> EngineTimes:
        """The same engine where everything takes so many times as long."""
        names = [field.name for field in fields(self) if field.name.endswith("_s")]
        return replace(self, **{name: getattr(self, name) * factor for name in names})

    def prefill_s(self, new: int, cached: int = 0) -> float:
        """One prompt alone, in one iteration."""
        return max(
            self.prefill_floor_s,
            self.prefill_fixed_s + self.chunk_s(new, cached) + self.prefill_cached_s * cached,
        )

    def chunk_s(self, new: int, done: int) -> float:
        """The variable part of `new` tokens after `done` others. Chunks add up to their whole."""
        return new * (self.prefill_token_s + self.prefill_pair_s * (done + new / 2))

    def step_s(self, batch: int, kv_tokens: float) -> float:
        """One token for each of `batch` requests that hold `kv_tokens` together."""
        return (
            max(
                self.step_low_s + self.step_low_request_s * batch,
                self.step_high_s + self.step_high_request_s * batch,
            )
            + self.step_kv_token_s * kv_tokens
        )

    def iteration_s(self, prefill_work_s: float, batch: int, kv_tokens: float) -> float:
        """One iteration that computes prefill chunks (`chunk_s` in sum) and a decode step."""
        if not batch:
            return max(self.prefill_floor_s, self.prefill_fixed_s + prefill_work_s)
        return max(self.prefill_floor_s, self.step_s(batch, kv_tokens) + prefill_work_s)

    def steps_s(self, steps: int, batch: int, kv_tokens: int) -> float:
        """Decode steps in a row; each adds a token to every context."""
        grown = batch * steps * (steps - 1) / 2
        return steps * self.step_s(batch, kv_tokens) + self.step_kv_token_s * grown

    def steps_within(self, seconds: float, batch: int, kv_tokens: int) -> int:
        """How many whole decode steps end within so many seconds: the inverse of `steps_s`."""
        first_s = self.step_s(batch, kv_tokens)
        slope = self.step_kv_token_s * batch / 2
        linear = first_s - slope
        # The stable root of slope*k**2 + linear*k = seconds; rounding is put right below.
        root = 2 * seconds / (linear + math.sqrt(linear * linear + 4 * slope * seconds))
        steps = int(root)
        while self.steps_s(steps + 1, batch, kv_tokens) <= seconds:
            steps += 1
        while steps and self.steps_s(steps, batch, kv_tokens) > seconds:
            steps -= 1
        return steps
