"""`config show` and `config check` as functions."""

import pytest

from baton.errors import StartupError
from baton.settings.commands import check, show


def test_show() -> None:
    assert "port: 9000  # cli command line" in show(None, {}, {"router.port": 9000})
    assert "port" not in show(None, {}, {"log.level": "debug"}, only_changed=True)


def test_show_refuses_what_is_not_valid() -> None:
    with pytest.raises(StartupError, match="1 problem"):
        show(None, {}, {"router.port": -1})


def test_check() -> None:
    assert check(None, {}, {}) == []
    assert len(check(None, {"BATON_NO": "1"}, {"router.port": -1})) == 2
