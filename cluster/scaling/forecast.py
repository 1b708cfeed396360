"""The load of a pool one start-up ahead: level and trend (Holt 1957), and the shape of a day.

A worker that is asked for now serves one start-up later, so its load is what counts. The forecast
is a floor: it adds workers early and never removes one.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cluster.scaling.memory import DAY_S, SLOTS, Past

_LEVEL_S = 15.0
"""Memory of the level; arrivals are already means of the window."""
_TREND_S = 120.0
_NOISE_S = 600.0
_OUTLIER = 2.0
"""A measurement adds at most so many times the noise to it: a step of the load is none."""
_QUIET = 0.03
"""Of the noise, what is always believed of a single measurement, so that it can grow again."""
_FAINT = 0.1
"""Busy workers below which the load has the noise of this one."""
_SIGNIFICANT = 2.0
"""A trend counts when it brings more than so many times the noise: random arrivals have none."""
_GROWTH_MAX = 1.5
"""A trend is believed up to so many times the level: bursts end."""
_GAP_S = 300.0
"""After a longer silence the trend is unknown."""
_TODAY = 0.5
"""Weight of the last day in the shape."""


def seen(past: Past, load: float, now: float) -> Past:
    """Takes in one measurement, in busy workers."""
    elapsed = now - past.at_s
    if past.at_s < 0 or elapsed > _GAP_S:
        return _counted(replace(past, level=load, trend_per_s=0.0, at_s=now), load, now, past.at_s)
    if elapsed <= 0:
        return past
    off = abs(load - past.level) / _root(max(load, past.level))
    off = min(off, max(_OUTLIER * past.noise, _QUIET))
    level = past.level + (load - past.level) * -math.expm1(-elapsed / _LEVEL_S)
    slope = (level - past.level) / elapsed
    trend = past.trend_per_s + (slope - past.trend_per_s) * -math.expm1(-elapsed / _TREND_S)
    noisy = past.noise + (off - past.noise) * -math.expm1(-elapsed / _NOISE_S)
    moved = replace(past, level=level, trend_per_s=trend, noise=noisy, at_s=now)
    return _counted(moved, load, now, past.at_s)


def noise(past: Past) -> float:
    """How far a measurement is off the level on average, in busy workers."""
    return past.noise * _root(past.level)


def ahead(past: Past, seconds: float, now: float) -> float:
    """The load expected in so many seconds, never below 0."""
    growth = past.trend_per_s * seconds
    if growth < _SIGNIFICANT * noise(past):
        growth = 0.0
    trended = min(past.level + growth, past.level * _GROWTH_MAX)
    return max(trended, _yesterday(past, seconds, now))


def _root(load: float) -> float:
    return math.sqrt(max(load, _FAINT))


def _yesterday(past: Past, seconds: float, now: float) -> float:
    """What the days before had at that time, as much more as the day before had then; 0 = unknown.

    Nobody knows more than the last days: today's ratio to them is kept within a factor of 2.
    """
    if not past.day:
        return 0.0
    then, today = past.day[_slot(now + seconds)], past.day[_slot(now)]
    if min(then, today) <= 0:
        return 0.0
    return then * min(max(past.level / today, 0.5), 2.0)


def _counted(past: Past, load: float, now: float, last_s: float) -> Past:
    """Adds to the quarter of an hour; closes the one before."""
    if last_s < 0 or _slot(now) == _slot(last_s):
        return replace(past, slot_sum=past.slot_sum + load, slot_count=past.slot_count + 1)
    day = list(past.day) or [-1.0] * SLOTS
    if past.slot_count:
        slot, mean = _slot(last_s), past.slot_sum / past.slot_count
        day[slot] = mean if day[slot] < 0 else day[slot] + (mean - day[slot]) * _TODAY
    return replace(past, day=tuple(day), slot_sum=load, slot_count=1)


def _slot(at_s: float) -> int:
    return int(at_s % DAY_S / DAY_S * SLOTS) % SLOTS
