"""Load makes the decode pool grow and shrink, without its controller too."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.leftovers import Mark
from benchmarks.served import Served, serving
from tests.cluster.asking import BACK_S, SHORT, busy, free_port, serves, status, until
from tests.cluster.conftest import BESIDE
from tests.cluster.streams import Streams

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]
CLIENTS, TOKENS = 10, 1500
SETTINGS = {
    "scaling.mode": "auto",
    "scaling.prefill_max_workers": 2,
    "scaling.decode_max_workers": 2,
    "scaling.interval_s": 1,
    "scaling.down_after_s": 5,
    "slo.window_s": 10,
    # Memory is what runs out here: some 11,800 tokens, which answers fill when they are half done.
    "engine.kv_cache_gib": 0.045,
    "model.max_model_len_tokens": 2048,
    # Prompts may take as long as they do on a machine that has two cores for four engines.
    "slo.ttft_s": 60,
    "slo.tpot_s": 5,
    "router.disaggregate": "always",
    "admission.shed_at": 0,
}


class _Load:
    """Clients with long answers, whose prompts share nothing."""

    def __init__(self, served: Served) -> None:
        self.failed: list[str] = []
        self.answered = 0
        self._url = f"{served.url}/v1/completions"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)

    def _run(self, number: int) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            body = {**SHORT, "prompt": f"{number} {turn} " * 60, "max_tokens": TOKENS}
            try:
                answer = httpx.post(self._url, json=body, timeout=120)
            except httpx.HTTPError as error:
                self.failed.append(f"{time.strftime('%X')} {error!r}")
                continue
            if answer.status_code != 200 or answer.json()["usage"]["completion_tokens"] != TOKENS:
                self.failed.append(f"{time.strftime('%X')} {answer.status_code} {answer.text}")
            self.answered += 1


def _ready(served: Served) -> dict[str, int]:
    """Workers by role, as routers use them."""
    try:
        workers = status(served)["workers"]
    except httpx.HTTPError:
        return {}
    return {r: sum(w["up"] and w["role"] == r for w in workers) for r in ("prefill", "decode")}


def _wanted(served: Served) -> tuple[int, int]:
    row = status(served)["scaling"]
    return row["prefill"], row["decode"]


def test_decode_grows_under_load_and_shrinks_again_and_prefill_stays(
    ray_beside: str, run_mark: Mark, tmp_path: Path
) -> None:
    fixed = {"cluster.ray_address": ray_beside, "router.port": free_port(), **SETTINGS}
    options = [word for name, value in fixed.items() for word in ("--set", f"{name}={value}")]
    environment = {**run_mark.environment, **BESIDE}
    with ExitStack() as stack:
        first = stack.enter_context(serving(options, tmp_path, environment))
        until(lambda: serves(first), BACK_S, "service")
        before = _pids(first)
        assert _ready(first) == {"prefill": 1, "decode": 1}
        with _Load(first) as load:
            stream = Streams(first, 1)
            until(lambda: _wanted(first)[1] == 2, BACK_S, "decode is wanted twice")
            until(stream.all_run, 60, "tokens")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(10)
            # Memory is full: even a short answer may have to wait for its turn.
            until(lambda: serves(first), BACK_S, "service without a controller")
            second = stack.enter_context(serving(options, tmp_path, environment))
            assert second.url == first.url
            assert before.items() <= _pids(second).items()
            until(lambda: _ready(second).get("decode") == 2, BACK_S, "two decode workers")
            assert _wanted(second) == (1, 2)
            row = status(second)["scaling"]
            assert row["mode"] == "auto"
            assert any("restart of the controller" in line for line in row["lately"])
            stream.wait()
            assert stream.ends == ["data: [DONE]"]
        until(lambda: busy(second) == 0, 120, "all is answered")
        until(lambda: _wanted(second)[1] == 1, 240, "one decode worker is wanted")
        until(lambda: _ready(second) == {"prefill": 1, "decode": 1}, 60, "it has gone")
        shown: list[str] = status(second)["scaling"]["lately"]
        print("\n".join(shown), load.answered)
        assert all(line.split()[1:3] == ["prefill", "1,"] for line in shown), shown
        assert load.failed == []
        assert load.answered > CLIENTS
    assert second.process.returncode == 0, "\n".join(second.lines[-30:])


def _pids(served: Served) -> dict[str, int]:
    page = status(served)
    routers = {r["router_id"]: r["pid"] for r in page["routers"]}
    return routers | {m["worker_id"]: m["pid"] for m in page["members"]}
