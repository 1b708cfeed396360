"""When tenants have their own part of the caches."""

import pytest

from baton.settings.access import AccessSettings


@pytest.mark.parametrize(
    ("given", "separate"),
    [
        ({}, False),
        ({"keys_path": "k"}, True),
        ({"separate_caches": "always"}, True),
        ({"keys_path": "k", "separate_caches": "never"}, False),
    ],
)
def test_who_has_a_key_has_a_cache_of_its_own(given: dict[str, str], separate: bool) -> None:
    assert AccessSettings.model_validate(given).separates() is separate
