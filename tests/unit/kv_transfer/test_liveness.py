"""Only what this very host knows for certain is proof."""

from __future__ import annotations

from dataclasses import replace

from kv_transfer.liveness import is_dead, this_host, this_process

NO_PID = 2**22 + 1
"""Beyond the largest pid of Linux."""


def test_this_process_lives() -> None:
    assert not is_dead(this_process(), this_host())


def test_a_pid_that_nobody_has_is_dead() -> None:
    assert is_dead(replace(this_process(), pid=NO_PID), this_host())


def test_a_reused_pid_is_somebody_else() -> None:
    me = this_process()
    assert is_dead(replace(me, started=me.started - 1), this_host())


def test_nothing_is_known_of_other_hosts() -> None:
    assert not is_dead(replace(this_process(), pid=NO_PID, host="elsewhere"), this_host())
