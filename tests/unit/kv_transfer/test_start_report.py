"""The engine's word reaches its owner, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from baton.errors import StartupFault
from kv_transfer.start_report import (
    StartReport,
    StartState,
    open_report,
    read_report,
    report_path,
    startup_error,
)


def _opened(path: Path) -> StartReport:
    open_report(path)
    return StartReport(path)


def test_nobody_hears_what_is_said_after_the_owner_removed_the_file(tmp_path: Path) -> None:
    report = _opened(tmp_path / "r")
    (tmp_path / "r").unlink()
    report.phase("too late")
    assert not (tmp_path / "r").exists()


def test_a_file_that_somebody_prepared_is_replaced(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (tmp_path / "r").symlink_to(elsewhere)
    _opened(tmp_path / "r").phase("loading weights")
    assert elsewhere.read_text() == ""
    assert read_report(tmp_path / "r").phase == "loading weights"


def test_no_file_is_no_news(tmp_path: Path) -> None:
    assert read_report(tmp_path / "nothing") == StartState()


def test_the_latest_phase_counts(tmp_path: Path) -> None:
    report = _opened(tmp_path / "r")
    report.phase("loading weights")
    report.phase("warming up")
    assert read_report(tmp_path / "r") == StartState("warming up")


def test_an_error_keeps_the_phase(tmp_path: Path) -> None:
    report = _opened(tmp_path / "r")
    report.phase("loading weights")
    report.failed(ValueError("no\nsuch tensor"))
    assert read_report(tmp_path / "r") == StartState(
        "loading weights", "ValueError: no\nsuch tensor"
    )


@pytest.mark.parametrize("tail", ["", '{"phase": "war', "\0\0", "[]", "7", '"text"', "null"])
def test_a_broken_line_is_no_news(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "r"
    _opened(path).phase("loading weights")
    with path.open("a") as file:
        file.write(tail)
    assert read_report(path) == StartState("loading weights")


def test_a_line_cut_inside_a_letter_is_no_news(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(b'{"phase": "loading"}\n{"phase": "\xc3')
    assert read_report(path) == StartState("loading")


def test_every_owner_has_a_file_of_its_own() -> None:
    assert report_path(1) != report_path(2)
    assert report_path(1) == report_path(1)


def test_an_engine_that_ends_without_a_word_crashed() -> None:
    error = startup_error(StartState("warming up"))
    assert error.fault is StartupFault.ENGINE_CRASHED
    assert "while warming up" in error.message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("RuntimeError: CUDA out of memory", StartupFault.MEMORY_TOO_SMALL),
        ("ValueError: No available memory for the cache blocks", StartupFault.MEMORY_TOO_SMALL),
        ("ValueError: 2 GiB KV cache is needed", StartupFault.MEMORY_TOO_SMALL),
        ("KeyError: 'model.layers.0'", StartupFault.ENGINE_CRASHED),
    ],
)
def test_the_engines_words_decide_the_fault(text: str, fault: StartupFault) -> None:
    error = startup_error(StartState("loading weights", text))
    assert error.fault is fault
    assert text in error.message


def test_the_endpoint_survives_and_stays_while_phases_go_on(tmp_path: Path) -> None:
    report = _opened(tmp_path / "r")
    report.phase("registering memory")
    report.endpoint(b"\x00\xffwhere I am")
    expected = StartState("registering memory", None, b"\x00\xffwhere I am")
    assert read_report(tmp_path / "r") == expected
    report.phase("ready")
    assert read_report(tmp_path / "r").endpoint == b"\x00\xffwhere I am"


def test_without_a_word_about_it_there_is_no_endpoint(tmp_path: Path) -> None:
    _opened(tmp_path / "r").phase("loading weights")
    assert read_report(tmp_path / "r").endpoint == b""
