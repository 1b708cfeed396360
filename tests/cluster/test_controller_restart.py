"""The controller is killed on a Ray that goes on: requests go on, and its successor finds all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.leftovers import Mark, mark
from benchmarks.served import Served, serving
from cluster.processes import descendants, kill_all
from tests.cluster.asking import BACK_S, LONG_ANSWER, busy, serves, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture
def run_mark() -> Iterator[Mark]:
    found = mark()
    yield found
    assert found.left(20) == []


@pytest.fixture
def ray_beside(run_mark: Mark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Ray that this cluster did not start."""
    folder, port = tmp_path_factory.mktemp("r"), _free_port()
    ray = Path(sys.executable).with_name("ray")
    options = [
        *("--head", "--block", "--port", str(port), "--node-ip-address", "127.0.0.1"),
        *("--num-cpus", "4", "--object-store-memory", str(100 * 2**20)),
        *("--include-dashboard", "false", "--disable-usage-stats", "--temp-dir", str(folder)),
    ]
    # Its own folder for the address file, too: whoever says 'auto' meanwhile is not to join it.
    environment = {**os.environ, **run_mark.environment, "RAY_TMPDIR": str(folder)}
    head = subprocess.Popen(
        [str(ray), "start", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**environment, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
        start_new_session=True,
    )
    try:
        until(lambda: _listens(port), 60, "Ray runs")
        yield f"127.0.0.1:{port}"
    finally:
        family = descendants(head.pid)
        head.send_signal(signal.SIGTERM)
        head.wait(30)
        kill_all(family)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class _LongAnswer(threading.Thread):
    """A stream of many seconds."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        self._url = f"{served.url}/v1/completions"
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        body = {**LONG_ANSWER, "stream": True}
        with httpx.stream("POST", self._url, json=body, timeout=60) as answer:
            for line in filter(None, answer.iter_lines()):
                self.lines.append(line)


def _pids(served: Served) -> dict[str, Any]:
    page = status(served)
    workers = {m["worker_id"]: (m["pid"], m["state"]) for m in page["members"]}
    return workers | {r["router_id"]: (r["pid"], r["state"]) for r in page["routers"]}


def test_nobody_notices_that_the_controller_was_away(
    ray_beside: str, run_mark: Mark, tmp_path: Path
) -> None:
    port = f"router.port={_free_port()}"
    options = ["--set", f"cluster.ray_address={ray_beside}", "--set", port]
    with ExitStack() as stack:
        first = stack.enter_context(serving(options, tmp_path, run_mark.environment))
        until(lambda: serves(first), BACK_S, "service")
        before = _pids(first)
        stream = _LongAnswer(first)
        until(lambda: len(stream.lines) > 20, 30, "tokens")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(10)
        seen = len(stream.lines)
        assert serves(first)
        with serving(options, tmp_path, run_mark.environment) as second:
            assert second.url == first.url
            assert stream.is_alive()
            assert len(stream.lines) > seen
            assert _pids(second) == before
            assert serves(second)
            # The new controller is obeyed: what is killed comes back.
            os.kill(before["prefill-0"][0], signal.SIGKILL)
            until(lambda: _pids(second)["prefill-0"][0] != before["prefill-0"][0], BACK_S, "anew")
            stream.join(60)
            assert stream.lines[-1] == "data: [DONE]"
            assert not any('"error"' in line for line in stream.lines)
            until(lambda: busy(second) == 0, 10, "all requests have ended")
        assert second.process.returncode == 0, "\n".join(second.lines[-30:])
