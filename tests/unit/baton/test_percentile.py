"""A percentile is a value that occurred."""

from __future__ import annotations

import pytest

from baton.percentile import percentile


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [
        ((), 0.9, None),
        ((3.0,), 0.9, 3.0),
        ((4.0, 2.0, 1.0, 3.0), 0.5, 2.0),
        ((4.0, 2.0, 1.0, 3.0), 0.51, 3.0),
        (tuple(map(float, range(1, 11))), 0.9, 9.0),
        ((1.0, 2.0), 0.0, 1.0),
        ((1.0, 2.0), 1.0, 2.0),
    ],
)
def test_it_is_the_smallest_that_so_many_do_not_exceed(values, share, found) -> None:
    assert percentile(values, share) == found
