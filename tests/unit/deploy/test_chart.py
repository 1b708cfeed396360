"""Charts: points where they belong, round ticks, names that cannot break out."""

import re

import pytest

from deploy.chart import _BOTTOM, _LEFT, _RIGHT, _TOP, HEIGHT, WIDTH, Chart, Scale, Series


def test_points_lie_between_the_ends_of_the_axes() -> None:
    chart = Chart("t", "x", "y", [Series("s", [(0, 0), (5, 10), (10, 20)])])
    (found,) = re.findall(r'points="([^"]+)"', chart.svg())
    points = [tuple(map(float, pair.split(","))) for pair in found.split()]
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    middle = ((left + right) / 2, (top + bottom) / 2)
    assert points == [(left, bottom), middle, (right, top)]


def test_ticks_are_round() -> None:
    assert Scale(0, 10).ticks() == [0, 2, 4, 6, 8, 10]
    assert Scale(0, 0.37).ticks() == pytest.approx([0, 0.1, 0.2, 0.3])
    assert Scale(3, 4000, log=True).ticks() == [10, 100, 1000]
    assert Scale(3, 40, log=True).ticks() == [5, 10, 20]


@pytest.mark.parametrize("points", [[(1, 1)], [(0, 0)], [(2, 5), (2, 5)], [(-1, -1), (1, 1)]])
@pytest.mark.parametrize("log", [False, True])
def test_flat_data_can_be_drawn(points: list[tuple[float, float]], log: bool) -> None:
    chart = Chart("t", "x", "y", [Series("s", points, dots=True)], log_x=log, marks=[("m", 3.0)])
    assert "nan" not in chart.svg()
    assert "<svg" in chart.svg()


def test_many_points_are_thinned_and_names_are_escaped() -> None:
    points = [(float(i), float(i)) for i in range(10_000)]
    text = Chart("<t>", "<x>", "<y>", [Series("<s>", points, dots=True)]).svg()
    assert text.count("<circle") < 2000
    assert "<t>" not in text
    assert "&lt;s&gt;" in text
    assert "nothing to show" in Chart("t", "x", "y", [Series("s", [])]).svg()
