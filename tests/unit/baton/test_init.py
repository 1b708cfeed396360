"""`baton` imports nothing beyond its own room, whatever else is installed."""

import subprocess
import sys

FOREIGN = ("ray", "vllm", "torch", "grpc", "nixl", "fastapi", "httpx")


def test_the_vocabulary_brings_no_heavy_library() -> None:
    code = (
        "import baton.clock, baton.errors, baton.ids, baton.log, baton.settings.commands, "
        f"baton.tasks, sys; print([m for m in {FOREIGN!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
