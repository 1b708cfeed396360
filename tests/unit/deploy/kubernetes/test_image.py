"""What the image adds to Baton: the controller's program, and where programs are found."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
CONTROLLER = ROOT / "deploy" / "container" / "baton-controller"
PAUSE_S = 60


def start(folder: Path, baton: str, ray: str = "true") -> subprocess.Popen[str]:
    """The program with a stand-in for `baton`, which is a line of shell, and a `sleep` that says
    for how long."""
    for name, line in (("baton", baton), ("sleep", "echo sleeps $1; exec /bin/sleep $1")):
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "KUBERAY_GEN_RAY_START_CMD": f"{ray} --block"}
    command = [str(CONTROLLER), "--config", "x"]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status after the signal of its pod's end, and what was printed meanwhile."""
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate()
    return process.returncode, printed


@pytest.mark.parametrize(("baton", "ray"), [("exit 3", "true"), ("echo no Ray", "false")])
def test_a_failure_stays_for_a_minute_or_to_the_end_of_the_pod(
    tmp_path: Path, baton: str, ray: str
) -> None:
    process = start(tmp_path, baton, ray)
    assert first_line(process) == f"sleeps {PAUSE_S}"
    began = time.monotonic()
    assert end(process) == (128 + signal.SIGTERM, "")
    assert time.monotonic() - began < PAUSE_S / 2


def test_an_end_without_failure_is_one(tmp_path: Path) -> None:
    process = start(tmp_path, "echo done")
    assert process.communicate() == ("done\n", None)
    assert process.returncode == 0


def test_a_login_shell_finds_baton(tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^.*(echo \"PATH=.*) > /etc/profile\.d/baton\.sh$", text, re.M)
    assert found is not None
    profile = tmp_path / "baton.sh"
    # As /etc/profile of Debian does it.
    script = f"{found[1]} > {profile}; export PATH=/usr/bin:/bin; . {profile}; printenv PATH"
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "/usr/local/baton/bin:/usr/bin:/bin"
