"""Keeps the unit tier on its own: no cluster, no network, no waiting in real time.

A test that needs one of these belongs to another tier. Asyncio's own socket pair still works,
because it neither binds nor connects.
"""

import socket
import sys
import time
from typing import NoReturn

import pytest


class OutsideUnitTierError(AssertionError):
    """A unit test reached for the world."""


def _refuse(what: str):
    def refused(*_args: object, **_kwargs: object) -> NoReturn:
        raise OutsideUnitTierError(f"{what} has no place in a unit test")

    return refused


@pytest.fixture(autouse=True)
def no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes sockets, sleeping and Ray raise."""
    for method in ("bind", "connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, method, _refuse(f"socket.{method}"))
    monkeypatch.setattr(time, "sleep", _refuse("time.sleep"))
    # Ray takes seconds to import; a test that has not imported it cannot start it either.
    ray = sys.modules.get("ray")
    if ray is not None and hasattr(ray, "init"):
        monkeypatch.setattr(ray, "init", _refuse("ray.init"))
