"""Charts as SVG text for reports of one file: nothing to fetch, nothing to run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 40
_COLOURS = ("#2a78d6", "#d99200", "#1a9b6d", "#4a3aa7", "#d9578a", "#d95926")
_POINTS_MAX = 1500
"""Of one series; of more, every so manieth is drawn."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points in one colour, joined by a line or not."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis: what its ends stand for, and how it is divided."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """0 to 1 from end to end."""
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        value = max(value, self.low)
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[float]:
        """Round values between the ends."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(powers) <= 3 else (1,)
            found = [step * 10.0**power for power in powers for step in steps]
            return [tick for tick in found if self.low <= tick <= self.high]
        step = _step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture. `marks` are vertical lines with a name."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    marks: Sequence[tuple[str, float]] = field(default=())

    def svg(self) -> str:
        """The picture; a sentence instead of it where there is nothing to show."""
        drawn = [s for s in self.series if s.points]
        if not drawn:
            return f"<p>{escape(self.title)}: nothing to show.</p>"
        xs = [x for s in drawn for x, _ in s.points] + [x for _, x in self.marks]
        ys = [y for s in drawn for _, y in s.points]
        x_scale, y_scale = _scale(xs, log=self.log_x), _scale(ys, log=False)
        title = escape(self.title)
        return "\n".join(
            [
                f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">',
                f'<text x="{_LEFT}" y="16" class="title">{title}</text>',
                *_axis_x(x_scale, self.x),
                *_axis_y(y_scale, self.y),
                *(_mark(x_scale, name, value) for name, value in self.marks),
                *(_draw(s, x_scale, y_scale, c) for s, c in zip(drawn, _cycle(), strict=False)),
                *_legend([s.name for s in drawn]),
                "</svg>",
            ]
        )


def _scale(values: Sequence[float], *, log: bool) -> Scale:
    if log:
        above = [v for v in values if v > 0] or [1.0]
        low, high = min(above), max(above)
        return Scale(low, high if high > low else low * 10, log=True)
    high = max(*values, 0.0)
    return Scale(min(*values, 0.0), high if high > min(*values, 0.0) else 1.0)


def _step(wanted: float) -> float:
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= wanted * 0.999)


def _x(scale: Scale, value: float) -> float:
    return round(_LEFT + scale.place(value) * (WIDTH - _LEFT - _RIGHT), 1)


def _y(scale: Scale, value: float) -> float:
    return round(HEIGHT - _BOTTOM - scale.place(value) * (HEIGHT - _TOP - _BOTTOM), 1)


def _axis_x(scale: Scale, name: str) -> Iterator[str]:
    bottom = HEIGHT - _BOTTOM
    for tick in scale.ticks():
        x = _x(scale, tick)
        yield f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}" class="grid"/>'
        yield f'<text x="{x}" y="{bottom + 14}" class="tick middle">{tick:g}</text>'
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 6}" class="name middle">{escape(name)}</text>'


def _axis_y(scale: Scale, name: str) -> Iterator[str]:
    for tick in scale.ticks():
        y = _y(scale, tick)
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{WIDTH - _RIGHT}" y2="{y}" class="grid"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" class="tick end">{tick:g}</text>'
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    turned = f'transform="rotate(-90 14 {middle})"'
    yield f'<text x="14" y="{middle}" class="name middle" {turned}>{escape(name)}</text>'


def _mark(scale: Scale, name: str, value: float) -> str:
    x = _x(scale, value)
    line = f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{HEIGHT - _BOTTOM}" class="mark"/>'
    return f'{line}<text x="{x + 4}" y="{_TOP + 12}" class="tick">{escape(name)}</text>'


def _draw(series: Series, x_scale: Scale, y_scale: Scale, colour: str) -> str:
    every = -(-len(series.points) // _POINTS_MAX)
    points = [(_x(x_scale, x), _y(y_scale, y)) for x, y in series.points[::every]]
    if series.dots:
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="2"/>' for x, y in points)
        return f'<g fill="{colour}" fill-opacity=".6">{dots}</g>'
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>'


def _legend(names: Sequence[str]) -> Iterator[str]:
    """Beside the title, where no line runs through it."""
    named = [
        f'<tspan fill="{colour}">\u25cf {escape(name)}</tspan>'
        for name, colour in zip(names, _cycle(), strict=False)
    ]
    yield f'<text x="{WIDTH - _RIGHT}" y="16" class="end">{"  ".join(named)}</text>'


def _cycle() -> Iterator[str]:
    while True:
        yield from _COLOURS


CSS = """
svg { width: 100%; max-width: 560px; background: #fff; border: 1px solid #e2e6eb; }
svg text { font: 11px system-ui, sans-serif; }
svg .title { font-weight: 650; font-size: 13px; fill: #171b21; }
svg .tick, svg .name { fill: #56606d; }
svg .middle { text-anchor: middle; } svg .end { text-anchor: end; }
svg .grid { stroke: #eceff3; } svg .mark { stroke: #b3261e; stroke-dasharray: 4 3; }
"""
