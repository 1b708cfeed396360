"""`baton transport test` with real agents in two processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nixl")

from deploy import cli

pytestmark = pytest.mark.wire

SIZE = ["--size", str(2**19)]


def children() -> set[str]:
    """Processes below this one."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def command(*words: str) -> list[str]:
    return ["transport", "test", *words]


def found(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    before = children()
    assert cli.main(command("--json", *words)) == code
    assert children() <= before
    return json.loads(capsys.readouterr().out)


def test_the_configured_model_s_block(capsys: pytest.CaptureFixture[str]) -> None:
    page = found(capsys, "--set", "kv_transfer.ucx_tls=tcp,shm", "--device", "cpu")
    assert (page["verdict"], page["device"], page["pieces"]) == ("ok", "cpu", 8)
    assert page["block_bytes"] % 8 == 0
    (host,) = page["memory"]
    write, read = host["operations"]
    assert (write["operation"], read["operation"]) == ("WRITE", "READ")
    assert write["transports"] == ["cma"]
    assert set(write["gb_per_s"]) == {"block", "64 KiB", "1 MiB", "8 MiB"}
    assert all(0.05 < rate < 500 for rate in write["gb_per_s"].values())
    assert 0 < write["block_ms_p50"] < 100


def test_a_floor_that_refuses_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    floor = ["--set", "kv_transfer.min_gb_per_second=100000"]
    refuse = ["--set", "kv_transfer.on_slow_transport=refuse"]
    tcp = ["--set", "kv_transfer.ucx_tls=tcp"]
    page = found(capsys, *SIZE, "--blocks", "4", *floor, *refuse, *tcp, code=1)
    assert page["verdict"] == "refused"
    assert page["memory"][0]["operations"][0]["transports"] == ["tcp"]
    assert "100000" in page["memory"][0]["why"].replace("1e+05", "100000")
    assert "tcp,shm" in page["memory"][0]["why"]


@pytest.mark.parametrize(
    ("transports", "words"),
    [("bogus", ["transport 'bogus' is not available", "Name transports"]), ("shm", ["add tcp"])],
)
def test_a_transport_that_does_not_work_is_1_with_ucx_s_reason(
    transports: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = children()
    assert cli.main(command(*SIZE, "--set", f"kv_transfer.ucx_tls={transports}")) == 1
    assert children() <= before
    text = capsys.readouterr().out
    for word in ["no transfer", f"kv_transfer.ucx_tls is '{transports}'", *words]:
        assert word in text


def test_its_processes_end_with_it() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", *command(*SIZE)],
        cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    mine = Path(f"/proc/{owner.pid}/task/{owner.pid}/children")
    until = time.monotonic() + 90
    while len(pids := mine.read_text().split()) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert len(pids) == 2
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    while any(alive(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
