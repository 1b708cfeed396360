"""What one worker can do within the promises, from its fitted costs.

Token velocity, as TokenScale calls it (arXiv 2512.03416): tokens per second that a worker sustains.
"""

from __future__ import annotations

from baton.costs import DecodeCurve, PrefillCurve


def prefill_tokens_per_s(curve: PrefillCurve, new: float, cached: float = 0.0) -> float:
    """Uncached tokens per second, of prompts with so many new and cached ones on average."""
    new = max(new, 1.0)
    return new / max(curve.seconds(new, cached), 1e-9)


def decode_tokens_per_s(
    curve: DecodeCurve, context: float, kv_tokens: float, tpot_s: float, running_max: int
) -> float:
    """Tokens of answers per second in the largest batch that memory and TPOT allow.

    `context` is the mean of prompt plus answer so far; `kv_tokens` the memory of one worker.
    """
    per_request_s = curve.request_s + curve.token_s * max(context, 1.0)
    by_tpot = (tpot_s - curve.fixed_s) / per_request_s if per_request_s > 0 else running_max
    batch = max(min(by_tpot, kv_tokens / max(context, 1.0), running_max), 1.0)
    return batch / max(curve.decode_step_s(batch, batch * context), 1e-9)
