"""Nothing unknown, nothing changed, nothing guessed."""

import pytest
from pydantic import ValidationError

from baton.settings.section import Section


class Sample(Section):
    number: int = 1


@pytest.mark.parametrize("wrong", [{"numbr": 2}, {"number": "2"}, {"number": 2.0}])
def test_what_is_not_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Sample(**wrong)


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Sample().number = 2
