"""What Ray would choke on is refused by the name of the setting."""

import re

import pytest

from baton.errors import StartupError
from baton.settings import load

GOOD = {"env_vars": {"UCX_NET_DEVICES": "eth0"}, "working_dir": "s3://b/c.zip", "pip": ["x"]}


def test_it_is_taken_as_it_is() -> None:
    settings = load(None, {}, {"cluster.runtime_env": GOOD}).settings
    assert settings.cluster.runtime_env == GOOD
    assert load(None, {}).settings.cluster.runtime_env == {}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"env_var": {}}, r"cluster\.runtime_env has 'env_var'; allowed: conda, config, env_vars"),
        ({"env_vars": {"A": 1}}, r"env_vars\['A'\] is 1; allowed: text, in quotes"),
        ({"env_vars": ["A=1"]}, r"env_vars is \['A=1'\]; allowed: names"),
        ({"working_dir": 3}, r"cluster\.runtime_env\.working_dir is 3; allowed: text"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], what: str) -> None:
    with pytest.raises(StartupError) as caught:
        load(None, {}, {"cluster.runtime_env": given})
    (problem,) = caught.value.details
    assert re.search(what, problem), problem
