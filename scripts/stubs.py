"""Write the gRPC stubs of the worker service from baton/wire/worker.proto.

`make proto` runs this file; scripts/check_house.py uses `stale_stubs` to see whether what lies in
the repository is what the generators write today.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = Path("baton/wire/worker.proto")
OUTPUTS = ("--python_out", "--grpc_python_out", "--mypy_out", "--mypy_grpc_out")
STUBS = ("worker_pb2.py", "worker_pb2.pyi", "worker_pb2_grpc.py", "worker_pb2_grpc.pyi")


def can_generate() -> bool:
    """Tell whether the generators are installed beside the running Python."""
    here = Path(sys.executable).parent
    return bool(importlib.util.find_spec("grpc_tools")) and (here / "protoc-gen-mypy").exists()


def generate(into: Path) -> None:
    """Write the stubs below a folder, at the path they have in the repository."""
    outputs = [f"{option}={into}" for option in OUTPUTS]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *outputs, str(ROOT / PROTO)]
    # protoc finds its plugins on the path, and the environment need not be activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )


def stale_stubs() -> list[Path]:
    """List the stubs in the repository that differ from freshly written ones."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        paths = [PROTO.parent / name for name in STUBS]
        return [path for path in paths if content(ROOT / path) != content(Path(folder) / path)]


def content(path: Path) -> bytes:
    """Read a file; a missing one is empty."""
    return path.read_bytes() if path.exists() else b""


def main() -> int:
    """Write the stubs into the repository."""
    try:
        generate(ROOT)
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return 1
    print(f"wrote {len(STUBS)} stubs beside {PROTO}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
