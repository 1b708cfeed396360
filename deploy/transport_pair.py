"""Two processes with a NIXL agent each, run as a pair for `baton transport test`."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from kv_transfer.transport_pair import Failed, Measured, Task, Where, read_answer

# Importing torch and creating a CUDA context take their time.
_HELLO_S = {"DRAM": 30.0, "VRAM": 120.0}
_MEASURE_S = 120.0
_END_S = 5.0
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from kv_transfer.transport_pair import main; main()"
)


@dataclass(frozen=True, slots=True)
class Logs:
    """What the two printed besides their answers."""

    target: str
    source: str


def run_pair(task: Task, environ: Mapping[str, str]) -> tuple[list[Measured] | Failed, Logs]:
    """(what the source measured or why nothing was, what the two printed)."""
    with tempfile.TemporaryFile() as there, tempfile.TemporaryFile() as here:
        # Both at once: most of their time goes by while they start.
        with _process(environ, there) as target, _process(environ, here) as source:
            where = _hello(target, task)
            answers = where if isinstance(where, Failed) else _measure(source, task, where)
        return answers, Logs(_text(there), _text(here))


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _measure(source: subprocess.Popen[bytes], task: Task, where: Where) -> list[Measured] | Failed:
    order = msgspec.json.encode(msgspec.structs.replace(task, peer=where)) + b"\n"
    try:
        out, _ = source.communicate(order, timeout=_MEASURE_S)
    except subprocess.TimeoutExpired:
        return Failed(f"the measurement did not end within {_MEASURE_S:g} s")
    answers = [_answer(line) for line in out.splitlines()]
    measured = [answer for answer in answers if isinstance(answer, Measured)]
    if len(measured) == len(answers) == 2 * len(task.shapes):
        return measured
    return _failed(answers[-1] if answers else None)


def _hello(target: subprocess.Popen[bytes], task: Task) -> Where | Failed:
    assert target.stdin is not None
    assert target.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        target.stdin.write(msgspec.json.encode(task) + b"\n")
        target.stdin.flush()
    timeout_s = _HELLO_S[task.memory]
    if not select.select([target.stdout], [], [], timeout_s)[0]:
        return Failed(f"the process with the agent did not start within {timeout_s:g} s")
    answer = _answer(target.stdout.readline())
    return answer if isinstance(answer, Where) else _failed(answer)


def _answer(line: bytes) -> Where | Measured | Failed | None:
    try:
        return read_answer(line)
    except ValueError:
        return None


def _failed(answer: Where | Measured | Failed | None) -> Failed:
    if isinstance(answer, Failed):
        return answer
    return Failed("a process with an agent ended without an answer")


@contextlib.contextmanager
def _process(environ: Mapping[str, str], log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """One end. It ends when its standard input does, whatever becomes of this process."""
    root = Path(__file__).parents[1]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-c", _CODE, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=dict(environ),
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
