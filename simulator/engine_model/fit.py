"""Fits `EngineTimes` to a profile by least squares of relative errors, and tells how well.

Relative, because a router compares predictions of short and long prompts alike. Coefficients of
times cannot be negative: a term that would be is left out and the rest fitted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulator.engine_model.profile import PrefillSample, Profile, ProfileError, StepSample
from simulator.engine_model.times import EngineTimes

_FLOOR_ROUNDS = 8
_NEAR_FLOOR = 1.25


@dataclass(frozen=True, slots=True)
class FitError:
    """Relative errors of predictions against medians of measurements."""

    what: str
    points: int
    mean: float
    worst: float
    worst_at: str

    def __str__(self) -> str:
        """One line for people."""
        head = f"{self.what}: {self.points} points, mean error {self.mean:.1%}"
        return f"{head}, worst {self.worst:.1%} at {self.worst_at}"


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model and its errors: on points it was fitted to, and on batches it never saw."""

    times: EngineTimes
    errors: tuple[FitError, ...]

    def __str__(self) -> str:
        """One line per kind of measurement."""
        return "\n".join(map(str, self.errors))


def fit(profile: Profile) -> Fit:
    """The model of a profile. Raises ProfileError for samples that no such model describes."""
    single = [s for s in profile.prefill if s.prompts == 1]
    floor_s, (c0, c1, c2, c3) = _fit_prefill(single)
    low, low_each, high, high_each, kv = _fit_step(profile.steps)
    kv_bytes = profile.kv_bytes_per_token
    try:
        times = EngineTimes(floor_s, c0, c1, c2, c3, low, low_each, high, high_each, kv, kv_bytes)
    except ValueError as error:
        raise ProfileError(f"no sensible model fits: {error}") from None
    return Fit(times, _errors(profile, times))


# --- prefill --------------------------------------------------------------------------------------


def _fit_prefill(samples: Sequence[PrefillSample]) -> tuple[float, list[float]]:
    """The floor, and c0 to c3 from the samples above it; which are above follows from the fit."""
    floor_s = min(s.median_s for s in samples)
    above = [s for s in samples if s.median_s > floor_s * _NEAR_FLOOR]
    model: list[float] = []
    for _ in range(_FLOOR_ROUNDS):
        if len(above) < 2:
            raise ProfileError("prefill: too few lengths take longer than the shortest")
        model = _least_squares([_terms(s) for s in above], [s.median_s for s in above])
        chosen = [s for s in samples if _dot(model, _terms(s)) > floor_s]
        below = [s.median_s for s in samples if s not in chosen]
        if chosen == above:
            break
        above, floor_s = chosen, sum(below) / len(below) if below else 0.0
    return floor_s, model


def _terms(sample: PrefillSample) -> list[float]:
    new, cached = sample.new, sample.cached
    return [1.0, new, new * (cached + new / 2), cached]


# --- decode ---------------------------------------------------------------------------------------


def _fit_step(samples: Sequence[StepSample]) -> list[float]:
    """Two lines and the price of KV, split between the batches where the worst error is least."""
    candidates = [_fit_split(samples, split) for split in sorted({s.batch for s in samples})]
    return min(candidates, key=lambda m: max(abs(_step_s(m, s) / s.seconds - 1) for s in samples))


def _fit_split(samples: Sequence[StepSample], split: int) -> list[float]:
    rows = []
    for s in samples:
        line = [1.0, s.batch, 0.0, 0.0] if s.batch <= split else [0.0, 0.0, 1.0, s.batch]
        rows.append([*line, s.batch * s.context])
    return _least_squares(rows, [s.seconds for s in samples])


def _step_s(model: Sequence[float], sample: StepSample) -> float:
    low, low_each, high, high_each, kv = model
    line = max(low + low_each * sample.batch, high + high_each * sample.batch)
    return line + kv * sample.batch * sample.context


# --- errors ---------------------------------------------------------------------------------------


def _errors(profile: Profile, times: EngineTimes) -> tuple[FitError, ...]:
    def prefill_s(s: PrefillSample) -> float:
        if s.prompts == 1:
            return times.prefill_s(s.new, s.cached)
        return times.iteration_s(s.prompts * times.chunk_s(s.new, s.cached), 0, 0)

    alone = [s for s in profile.prefill if s.prompts == 1 and not s.cached]
    after = [s for s in profile.prefill if s.cached]
    batched = [s for s in profile.prefill if s.prompts > 1]
    kinds: list[tuple[str, Sequence[PrefillSample]]] = [
        ("prefill", alone),
        ("prefill after a cached prefix", after),
        ("batched prefill (not fitted)", batched),
    ]
    prefill = [
        _error(what, samples, prefill_s, lambda s: s.median_s) for what, samples in kinds if samples
    ]
    step = _error(
        "decode step",
        profile.steps,
        lambda s: times.step_s(s.batch, s.batch * s.context),
        lambda s: s.seconds,
    )
    return (*prefill, step)


def _error(
    what: str,
    samples: Sequence[object],
    predict: Callable[..., float],
    measured: Callable[..., float],
) -> FitError:
    errors = [(abs(predict(s) / measured(s) - 1), _place(s)) for s in samples]
    worst, place = max(errors)
    return FitError(what, len(errors), sum(e for e, _ in errors) / len(errors), worst, place)


def _place(sample: object) -> str:
    match sample:
        case PrefillSample(new=new, cached=cached, prompts=prompts):
            return f"{prompts} x {new} tokens after {cached}"
        case StepSample(batch=batch, context=context):
            return f"{batch} x {context} tokens"
    raise TypeError(sample)


# --- least squares --------------------------------------------------------------------------------


def _least_squares(rows: Sequence[Sequence[float]], targets: Sequence[float]) -> list[float]:
    """Coefficients of at least 0 with the least sum of squared relative errors."""
    columns = [i for i in range(len(rows[0])) if any(row[i] for row in rows)]
    while True:
        weighted = [[row[i] / t for i in columns] for row, t in zip(rows, targets, strict=True)]
        found = _solve(weighted)
        lowest = min(found)
        if lowest >= 0 or len(columns) == 1:
            break
        columns.pop(found.index(lowest))
    model = [0.0] * len(rows[0])
    for i, value in zip(columns, found, strict=True):
        model[i] = max(value, 0.0)
    return model


def _solve(rows: Sequence[Sequence[float]]) -> list[float]:
    """The x for which rows times x is nearest to 1 everywhere: the normal equations, scaled."""
    size = len(rows[0])
    scale = [max(abs(row[i]) for row in rows) for i in range(size)]
    scaled = [[v / s for v, s in zip(row, scale, strict=True)] for row in rows]
    matrix = [
        [sum(r[i] * r[j] for r in scaled) for j in range(size)] + [sum(r[i] for r in scaled)]
        for i in range(size)
    ]
    return [v / s for v, s in zip(_eliminate(matrix), scale, strict=True)]


def _eliminate(matrix: list[list[float]]) -> list[float]:
    """Gauss and Jordan with pivots; a column that depends on others gets 0."""
    size = len(matrix)
    for col in range(size):
        pivot = max(range(col, size), key=lambda row: abs(matrix[row][col]))
        matrix[col], matrix[pivot] = matrix[pivot], matrix[col]
        head = matrix[col][col]
        if abs(head) < 1e-12:
            matrix[col] = [0.0] * (size + 1)
            continue
        matrix[col] = [value / head for value in matrix[col]]
        for row in range(size):
            if row != col:
                factor = matrix[row][col]
                pairs = zip(matrix[row], matrix[col], strict=True)
                matrix[row] = [a - factor * b for a, b in pairs]
    return [row[size] for row in matrix]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))
