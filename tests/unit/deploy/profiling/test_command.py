"""From an engine of known coefficients to a profile that has them, with interruptions."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nixl")

from baton.errors import BatonError
from deploy import cli
from deploy.profiling import command
from deploy.profiling.command import Estimate, fitted, measure, room_of
from deploy.profiling.points import grid
from deploy.profiling.store import ProfileFile
from deploy.progress import Watched
from deploy.transport import Found, Row
from kv_transfer.self_test import Verdict
from simulator.engine_model.fit import fit
from simulator.engine_model.profile import load_profile
from tests.unit.deploy.profiling.engines import FACTS, TIMES, ClockedEngine, make, meter

MINE = {"device": "this one"}


def begun(path: Path) -> ProfileFile:
    file = ProfileFile.open(path, MINE, again=False)
    file.describe("a fake", {"kv_bytes_per_token": 131_072})
    return file


async def measured(
    engine: ClockedEngine, path: Path, points: int | None = None, *, quick: bool = True
) -> str:
    """Measures until so many points are in the file; what progress said."""
    said = io.StringIO()
    file = begun(path)

    def stopped() -> bool:
        return points is not None and len(file.data["measuring"]["points"]) >= points

    planned = grid(room_of(FACTS, 64, 8192), quick=quick)
    progress = Watched("profile", None, said)
    await measure(meter(engine), planned, file, progress, engine.clock, stopped)
    return said.getvalue()


async def test_known_coefficients_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    await measured(ClockedEngine(), path, quick=False)
    found = fit(load_profile(path))
    assert astuple(found.times)[:-1] == pytest.approx(astuple(TIMES)[:-1], rel=0.02)
    assert all(error.worst < 0.02 for error in found.errors if "batched" not in error.what)
    lines = list(fitted(path))
    assert "decode step: " in lines[0]


async def test_noise_is_averaged_out(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    await measured(ClockedEngine(noise=0.05), path, quick=False)
    found = fit(load_profile(path)).times
    for new, cached in ((300, 0), (2000, 0), (7000, 0), (1000, 5000)):
        assert found.prefill_s(new, cached) == pytest.approx(TIMES.prefill_s(new, cached), rel=0.1)
    for batch, context in ((1, 600), (32, 1000), (60, 800), (8, 7000)):
        expected = TIMES.step_s(batch, batch * context)
        assert found.step_s(batch, batch * context) == pytest.approx(expected, rel=0.05)


async def test_an_interrupted_measurement_goes_on_where_it_was(tmp_path: Path) -> None:
    path, whole = tmp_path / "p.json", tmp_path / "whole.json"
    engine = ClockedEngine()
    said = await measured(engine, path, points=3)
    assert said.startswith("profile: 0%, prefill 64 tokens\n")
    assert len(json.loads(path.read_text())["prefill"]) == 3
    first = engine.asked_for
    assert first == 3 * 3
    await measured(engine, path)
    await measured(ClockedEngine(), whole)
    mine, all_at_once = (json.loads(p.read_text()) for p in (path, whole))
    assert mine["measuring"]["points"] == all_at_once["measuring"]["points"]
    for name in ("prefill", "prefill_after_cached_prefix", "decode_step"):
        assert len(mine[name]) == len(all_at_once[name])
    assert mine["prefill"][:3] == all_at_once["prefill"][:3]


async def test_a_dead_engine_leaves_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(BatonError):
        await measured(ClockedEngine(dies_after=7), path)
    assert len(json.loads(path.read_text())["prefill"]) == 2


def test_the_estimate_is_by_what_this_run_measured() -> None:
    estimate = Estimate(total=100.0, done=40.0)
    assert estimate.left_s(0.0) is None
    assert estimate.note("prefill", 3.0) == "prefill"
    estimate.done, estimate.measured = 50.0, 10.0
    assert estimate.left_s(20.0) == 100.0
    assert estimate.note("prefill", 20.0) == "prefill, about 1 min 40 s left"


async def test_what_cannot_be_fitted_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    await measured(ClockedEngine(), path, points=2)
    assert next(fitted(path)).startswith("no model fits: ")


# --- the command, its engine and its transfers put in ---------------------------------------------


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ClockedEngine:
    made = ClockedEngine()
    rates = {"block": 1.0, "64 KiB": 0.5, "1 MiB": 0.75}
    rows = tuple(Row(op, None, rates, 0.001) for op in ("WRITE", "READ"))

    @asynccontextmanager
    async def engine_of(*_: Any) -> AsyncIterator[ClockedEngine]:
        yield made

    monkeypatch.setattr(command, "engine_of", engine_of)
    monkeypatch.setattr(command, "maker", lambda: make)
    monkeypatch.setattr(command, "MonotonicClock", lambda: made.clock)
    monkeypatch.setattr(command, "configure_logging", lambda *_: None)
    examined = [Found("DRAM", rows, Verdict.OK)]
    monkeypatch.setattr(command.transport, "examine", lambda *_: examined)
    return made


def test_the_command(
    engine: ClockedEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.json"
    words = ["profile", str(path), "--quick", "--longest", "8192"]
    words += ["--set", "model.dtype=bfloat16"]
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "decode step: " in out
    assert out.endswith(f"profile: {path}\n")
    assert "starting the engine" in err
    profile = load_profile(path)
    # Eight layers of four heads of 32 numbers, K and V, two bytes each.
    assert profile.kv_bytes_per_token == 8 * 4 * 32 * 2 * 2
    assert "bfloat16" in profile.about
    # On CPU a piece of the demo model's block in bfloat16 is as large as one of the fixed sizes.
    moved = [(t.op, t.block_bytes, t.bytes_per_s) for t in profile.transfers]
    assert moved[:2] == [("WRITE", 2**16, 1e9), ("WRITE", 2**20, 0.75e9)]
    assert [op for op, *_ in moved] == ["WRITE"] * 2 + ["READ"] * 2
    assert json.loads(path.read_text())["measuring"]["done"] is True
    assert cli.main(words) == 2
    assert "is complete" in capsys.readouterr().err


def test_a_transfer_that_failed_is_tried_again(
    engine: ClockedEngine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "p.json"
    with monkeypatch.context() as failing:
        nothing = [Found("DRAM", (), Verdict.OK)]
        failing.setattr(command.transport, "examine", lambda *_: nothing)
        assert cli.main(["profile", str(path), "--quick"]) == 0
    assert "tries that again" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert "transfer" not in found
    assert found["measuring"]["done"] is False
    asked_for = engine.asked_for
    assert cli.main(["profile", str(path), "--quick"]) == 0
    found = json.loads(path.read_text())
    assert found["transfer"]
    assert found["measuring"]["done"] is True
    # All that it asks of the engine is to warm up.
    assert engine.asked_for < asked_for + 5


def test_ctrl_c_keeps_what_was_measured(
    engine: ClockedEngine,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "p.json"
    step = engine.step

    async def interrupted() -> Any:
        if engine.asked_for == 8:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.05)
        return await step()

    monkeypatch.setattr(engine, "step", interrupted)
    assert cli.main(["profile", str(path), "--quick"]) == 1
    assert "interrupted; the same command goes on" in capsys.readouterr().out
    kept = json.loads(path.read_text())["measuring"]
    assert kept["done"] is False
    assert 1 <= len(kept["points"]) <= 3
    assert cli.main(["profile", str(path), "--quick"]) == 0


def test_caching_has_to_be_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = ["--set", "engine.prefix_caching=false"]
    assert cli.main(["profile", str(tmp_path / "p.json"), *off]) == 2
    assert "prefix_caching" in capsys.readouterr().err
