"""What importing the package brings, and that its documented programs run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import baton_client
import pytest
from baton_client.testing import FakeBaton

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FOREIGN = ["vllm", "torch", "ray", "numpy", "baton", "router", "engine", "msgspec", "pydantic"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(baton_client.__file__).parent.parent)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=environment
    )


def test_everything_public_is_there_and_sorted() -> None:
    assert baton_client.__all__ == sorted(baton_client.__all__)
    assert all(hasattr(baton_client, name) for name in baton_client.__all__)


def test_importing_it_brings_grpc_and_protobuf_only() -> None:
    program = "import baton_client.testing, json, sys; print(json.dumps([*sys.modules]))"
    loaded = json.loads(run("-c", program).stdout)
    assert "grpc" in loaded
    assert not set(FOREIGN) & set(loaded)


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples(path: Path, fake: FakeBaton) -> None:
    ended = run(str(path), fake.address)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert fake.requests or path.stem == "testing_your_code"


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


def test_the_readme_shows_programs_that_run(fake: FakeBaton) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(programs) >= 6
    opening = "from baton_client import Client\nclient = Client(ROUTER)\nprompts = ['a', 'b']\n"
    whole = "".join(opening + program for program in programs)
    local = re.sub(r'(?<=Client\()"localhost:8001"', "ROUTER", whole)
    ended = run("-c", f"ROUTER = {fake.address!r}\n{local}")
    assert ended.returncode == 0, ended.stderr


def test_the_readmes_error_table_is_whole() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    kinds = {name for name in baton_client.__all__ if name.endswith("Error")} - {"BatonError"}
    assert kinds == set(re.findall(r"^\| `(\w+Error)` \|", text, re.MULTILINE))
