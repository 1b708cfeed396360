"""What a worker may use is checked before Ray is asked for it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from baton.settings import PoolSettings


def test_resources_are_by_name() -> None:
    pool = PoolSettings(resources={"decode_node": 0.5}, placement="spread", accelerator_type="H100")
    assert dict(pool.resources) == {"decode_node": 0.5}


@pytest.mark.parametrize(
    ("resources", "what"), [({"x": 0}, "greater than 0"), ({"GPU": 1}, "GPU is set by")]
)
def test_what_ray_would_choke_on_is_refused(resources: dict[str, float], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        PoolSettings(resources=resources)
