"""The command line that benchmarks share, and how they tell their result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.outputs import command, tell


def test_a_result_is_the_last_line_and_the_same_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, result = tmp_path / "result.json", {"ok": True, "ms": 1.5}
    print("some progress")
    tell(result, file)
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == result
    assert file.read_text() == last + "\n"


def test_a_result_is_shown_even_if_its_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FileNotFoundError):
        tell({"ok": True}, tmp_path / "missing" / "result.json")
    assert capsys.readouterr().out == '{"ok": true}\n'


def test_a_command_line_says_what_the_benchmark_and_its_short_run_are() -> None:
    parser = command("What it costs.\n\nusage: and more", "a short run")
    assert parser.description == "What it costs."
    assert "a short run" in parser.format_help()
    chosen = parser.parse_args(["--quick", "--json", "result.json"])
    assert (chosen.quick, chosen.json) == (True, Path("result.json"))


def test_where_there_is_no_short_run_nobody_can_ask_for_one() -> None:
    with pytest.raises(SystemExit):
        command("What it costs.").parse_args(["--quick"])
