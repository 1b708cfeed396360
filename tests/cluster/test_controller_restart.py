"""The controller is killed on a Ray that goes on: requests go on, and its successor finds all."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.leftovers import Mark
from benchmarks.served import Served, serving
from tests.cluster.asking import BACK_S, LONG_ANSWER, busy, free_port, serves, status, until
from tests.cluster.conftest import BESIDE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


class _LongAnswer(threading.Thread):
    """A stream of many seconds."""

    def __init__(self, served: Served) -> None:
        super().__init__()
        self._url = f"{served.url}/v1/completions"
        self.lines: list[str] = []
        self.start()

    def run(self) -> None:
        body = {**LONG_ANSWER, "max_tokens": 2000, "stream": True}
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
    port = f"router.port={free_port()}"
    options = ["--set", f"cluster.ray_address={ray_beside}", "--set", port]
    environment = {**run_mark.environment, **BESIDE}
    with ExitStack() as stack:
        first = stack.enter_context(serving(options, tmp_path, environment))
        until(lambda: serves(first), BACK_S, "service")
        before = _pids(first)
        stream = _LongAnswer(first)
        until(lambda: len(stream.lines) > 20, 30, "tokens")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait(10)
        seen = len(stream.lines)
        assert serves(first)
        with serving(options, tmp_path, environment) as second:
            assert second.url == first.url
            assert stream.is_alive()
            assert len(stream.lines) > seen
            assert _pids(second) == before
            assert serves(second)
            # The new controller is obeyed: what is killed comes back.
            os.kill(before["prefill-0"][0], signal.SIGKILL)
            until(lambda: _pids(second)["prefill-0"][0] != before["prefill-0"][0], BACK_S, "anew")
            stream.join(120)
            assert stream.lines[-1] == "data: [DONE]"
            assert not any('"error"' in line for line in stream.lines)
            until(lambda: busy(second) == 0, 10, "all requests have ended")
        assert second.process.returncode == 0, "\n".join(second.lines[-30:])
