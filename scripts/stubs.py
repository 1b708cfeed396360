"""Write the gRPC stubs of the worker service and of the public service from their .proto files.

`make proto` runs this file; scripts/check_house.py uses `stale_stubs` to see whether what lies in
the repository is what the generators write today.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ("--python_out", "--grpc_python_out", "--mypy_out", "--mypy_grpc_out")
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


class Source(NamedTuple):
    """One .proto file: its path below `root`, and the folder below which its stubs are written."""

    root: Path
    proto: Path
    into: Path

    def stubs(self) -> list[Path]:
        """The files that the generators write, seen from the repository's root."""
        stem = self.into / self.proto.with_suffix("")
        return [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]


SOURCES = (
    Source(Path(), Path("baton/wire/worker.proto"), Path()),
    Source(Path("client/proto"), Path("baton_client/v1/service.proto"), Path("client")),
)


def can_generate() -> bool:
    """Tell whether the generators are installed beside the running Python."""
    here = Path(sys.executable).parent
    return bool(importlib.util.find_spec("grpc_tools")) and (here / "protoc-gen-mypy").exists()


def generate(source: Source, repository: Path) -> None:
    """Write the stubs below a folder, at the path they have in the repository."""
    into = repository / source.into
    into.mkdir(parents=True, exist_ok=True)
    outputs = [f"{option}={into}" for option in OUTPUTS]
    root = ROOT / source.root
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{root}", *outputs]
    # protoc finds its plugins on the path, and the environment need not be activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(
        [*command, str(root / source.proto)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )


def stale_stubs() -> list[Path]:
    """List the stubs in the repository that differ from freshly written ones."""
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            generate(source, Path(folder))
        paths = [path for source in SOURCES for path in source.stubs()]
        return [path for path in paths if content(ROOT / path) != content(Path(folder) / path)]


def content(path: Path) -> bytes:
    """Read a file; a missing one is empty."""
    return path.read_bytes() if path.exists() else b""


def main() -> int:
    """Write the stubs into the repository."""
    for source in SOURCES:
        try:
            generate(source, ROOT)
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            return 1
        print(f"wrote {len(SUFFIXES)} stubs of {source.proto}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
