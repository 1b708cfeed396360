"""How late first tokens come, compared with what was predicted: what is to be added to be safe.

Mean and deviation with forgetting, as TCP sets its timeout (Jacobson 1988): two deviations above
the mean about one request in twenty comes later than thought. Pure.
"""

from __future__ import annotations

_SHARE = 0.05
"""Of each new sample."""
_DEVIATIONS = 2.0


class ForecastError:
    """Of one router. Seconds."""

    def __init__(self) -> None:
        self._mean_s = 0.0
        self._deviation_s = 0.0

    def came(self, predicted_s: float, real_s: float, most_s: float) -> None:
        """A first token came; what is off by more than `most_s` had other reasons."""
        off_s = min(max(real_s - predicted_s, -most_s), most_s)
        self._deviation_s += _SHARE * (abs(off_s - self._mean_s) - self._deviation_s)
        self._mean_s += _SHARE * (off_s - self._mean_s)

    @property
    def margin_s(self) -> float:
        """To be added to a prediction; never less than nothing."""
        return max(self._mean_s + _DEVIATIONS * self._deviation_s, 0.0)
