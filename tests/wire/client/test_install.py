"""The client by itself: installed where nothing else is, with its own suite run there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[3] / "client"
PULLED = {"baton-client", "grpcio", "protobuf", "typing_extensions"}
IMPORTS = """
import json, sys, time
started = time.perf_counter()
import baton_client
seconds = time.perf_counter() - started
print(json.dumps([seconds, baton_client.__file__, [*sys.modules]]))
"""


def run(*command: object, folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with nothing but the client in it."""
    folder = tmp_path_factory.mktemp("alone")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    # Built from a copy, so that nothing is left in the tree.
    shutil.copytree(CLIENT, folder / "client")
    python = folder / "bin" / "python"
    pip(python, "install", "-q", folder / "client")
    return python


def pip(python: Path, *arguments: object) -> str:
    """Run this environment's pip for another one, which then need not have its own."""
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    return run(*command, folder=python.parent)


@pytest.mark.timeout(180)
def test_it_pulls_grpc_and_protobuf_only(python: Path) -> None:
    listed = json.loads(pip(python, "list", "--format=json"))
    assert {package["name"] for package in listed} == PULLED


@pytest.mark.timeout(60)
def test_it_imports_alone(python: Path) -> None:
    seconds, path, loaded = json.loads(run(python, "-c", IMPORTS, folder=python.parent))
    print(f"import baton_client: {seconds:.3f} s")
    assert str(CLIENT) not in path
    assert not {"vllm", "torch", "ray", "numpy", "baton", "router", "pydantic"} & set(loaded)


@pytest.mark.timeout(180)
def test_its_own_suite_passes_there(python: Path) -> None:
    pip(python, "install", "-q", "pytest")
    suite = [python.parents[1] / "client" / "tests", "-q", "-p", "no:cacheprovider"]
    print(run(python, "-m", "pytest", *suite, folder=python.parent)[-300:])
