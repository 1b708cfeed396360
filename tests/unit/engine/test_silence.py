"""The watch runs with work only, and a word sets it back."""

from __future__ import annotations

from engine.silence import Silence


def test_it_runs_while_there_is_work() -> None:
    silence = Silence()
    assert silence.seconds(100.0) == 0.0
    silence.starts(100.0)
    silence.starts(103.0)
    assert silence.seconds(105.0) == 5.0


def test_withdrawn_work_is_remembered_and_idle_time_does_not_count() -> None:
    silence = Silence()
    silence.starts(0.0)
    silence.pauses(4.0)
    assert silence.seconds(1000.0) == 4.0
    silence.starts(1000.0)
    assert silence.seconds(1003.0) == 7.0


def test_a_word_sets_it_back_with_work_and_without() -> None:
    silence = Silence()
    silence.starts(0.0)
    silence.ends(4.0)
    assert silence.seconds(6.0) == 2.0
    silence.pauses(6.0)
    silence.ends(7.0)
    assert silence.seconds(9.0) == 0.0
