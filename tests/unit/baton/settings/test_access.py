"""When tenants have their own part of the caches."""

import pytest
from pydantic import ValidationError

from baton.settings import Settings
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


@pytest.mark.parametrize("front", ["rust", "python-processes"])
@pytest.mark.parametrize(
    ("guard", "named"),
    [
        ({"access": {"keys_path": "k"}}, "access.keys_path"),
        ({"tls": {"cert_path": "c", "key_path": "k"}}, "tls.cert_path"),
    ],
)
def test_front_ends_that_ask_for_no_key_are_refused_with_keys(
    front: str, guard: dict[str, dict[str, str]], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings.model_validate({**guard, "router": {"front": front}})
    Settings.model_validate({**guard, "router": {"front": "in-process"}})
