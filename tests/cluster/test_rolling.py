"""Two routers behind one port, one worker of each kind: everything is restarted under load.

Half of it by `baton drain`, half by SIGTERM. No request may fail: not on a new connection, not on
one that is kept, and no stream may break off.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.leftovers import mark
from benchmarks.served import Served, serving
from deploy import cli
from tests.cluster.asking import BACK_S, LONG_PROMPT, SHORT, busy, lives, serves, status, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
OPTIONS = [
    *("--routers", "2"),
    *("--set", "cluster.restart_backoff_s=0.2"),
    # Engines start beside the load on the same cores: what is slow then is not to be refused.
    *("--set", "admission.shed_at=0"),
]
STREAMS_MAX = 24
PATIENCE_S = 60.0
STALL_S = 45.0
"""No stream may pause for longer, whatever happens to its workers."""


def _routers(served: Served) -> dict[str, dict[str, Any]]:
    """The routers by name, without those that only see their last clients off."""
    return {r["router_id"]: r for r in status(served)["routers"] if not r["replaced"]}


def _both(served: Served) -> dict[str, dict[str, Any]]:
    """The routers, once all are ready. Each of them answers for both, and hears a little later."""
    give_up = time.monotonic() + 10
    while True:
        found = _routers(served)
        if len(found) == 2 and all(r["state"] == "ready" for r in found.values()):
            return found
        assert time.monotonic() < give_up, found
        time.sleep(0.2)


def _members(served: Served) -> dict[str, dict[str, Any]]:
    return {m["worker_id"]: m for m in status(served)["members"]}


def _is_back(found: dict[str, Any], pid: int) -> bool:
    return found["state"] == "ready" and found["pid"] != pid and not lives(pid)


def _restarts(served: Served) -> dict[str, int]:
    rows = {**_members(served), **_routers(served)}
    return {name: row["restarts"] for name, row in rows.items()}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def served(run_dir: Path) -> Iterator[Served]:
    run_mark = mark()
    with serving(OPTIONS, run_dir, run_mark.environment) as one:
        until(lambda: serves(one), BACK_S, "service")
        yield one
    assert one.process.returncode == 0, "\n".join(one.lines[-30:])
    assert run_mark.left() == []


class _Stream:
    """One long answer, and the router that gives it."""

    def __init__(self, served: Served, stack: ExitStack) -> None:
        body = {**SHORT, "max_tokens": 600, "stream": True}
        client = stack.enter_context(httpx.Client(timeout=PATIENCE_S))
        asked = client.stream("POST", f"{served.url}/v1/completions", json=body)
        self._answer = stack.enter_context(asked)
        self._lines = self._answer.iter_lines()
        next(self._lines)
        _, self._port = self._answer.extensions["network_stream"].get_extra_info("client_addr")

    def comes_from(self, pid: int) -> bool:
        peers = psutil.Process(pid).net_connections(kind="tcp")
        return any(c.raddr and c.raddr.port == self._port for c in peers)

    def ends_well(self) -> bool:
        try:
            lines = list(filter(None, self._lines))
        except httpx.TransportError:
            return False
        return lines[-1] == "data: [DONE]"


def _streams_of_both(served: Served, pids: list[int], stack: ExitStack) -> list[list[_Stream]]:
    """Streams by the router that gives them, at least one of each."""
    found: list[list[_Stream]] = [[], []]
    for _ in range(STREAMS_MAX):
        stream = _Stream(served, stack)
        (number,) = (n for n, pid in enumerate(pids) if stream.comes_from(pid))
        found[number].append(stream)
        if all(found):
            return found
    raise AssertionError(f"{STREAMS_MAX} connections went to one router")


def test_a_killed_router_loses_its_own_streams_only(
    served: Served, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _both(served)
    pids = [before[name]["pid"] for name in ("router-0", "router-1")]
    assert before["router-0"]["address"] == before["router-1"]["address"] == served.url
    workers = {name: m["pid"] for name, m in _members(served).items()}
    with ExitStack() as stack:
        doomed, others = _streams_of_both(served, pids, stack)
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: not lives(pids[0]), 5, "it is gone")
        assert all(serves(served) for _ in range(5))
        assert not any(stream.ends_well() for stream in doomed)
        assert all(stream.ends_well() for stream in others)
    until(lambda: busy(served) == 0, 10, "the workers forget what nobody waits for")
    until(lambda: _is_back(_routers(served)["router-0"], pids[0]), BACK_S, "a new one")
    assert _routers(served)["router-1"]["pid"] == pids[1]
    assert {name: m["pid"] for name, m in _members(served).items()} == workers
    assert cli.main(["status", "--json", "--set", f"cluster.run_dir={run_dir}"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(r["router_id"], r["restarts"]) for r in shown["routers"]] == [
        ("router-0", 1),
        ("router-1", 0),
    ]


class _Load:
    """Clients of all kinds; counts what they were answered, and keeps what failed."""

    def __init__(self, served: Served) -> None:
        self.well: dict[str, int] = {}
        self.failed: list[str] = []
        self._url = f"{served.url}/v1/completions"
        self._over = threading.Event()
        kinds: list[Callable[[int], None]] = [self._anew, self._kept, self._streamed]
        self._threads = [
            threading.Thread(target=self._run, args=(kind, n)) for n, kind in enumerate(kinds)
        ]

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, kind: Callable[[int], None], seed: int) -> None:
        while not self._over.is_set():
            try:
                kind(seed)
            except (httpx.HTTPError, AssertionError) as error:
                self.failed.append(f"{kind.__name__} at {time.strftime('%X')}: {error!r}")

    def _body(self, seed: int) -> dict[str, Any]:
        number = sum(self.well.values())
        body = SHORT if number % 3 else {**LONG_PROMPT, "prompt": f"w{seed} w{number} " * 300}
        return {**body, "max_tokens": 8}

    def _took(self, answer: httpx.Response, kind: str) -> None:
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        assert answer.json()["usage"]["completion_tokens"] == 8
        self.well[kind] = self.well.get(kind, 0) + 1
        self._over.wait(0.5)

    def _anew(self, seed: int) -> None:
        """A connection of its own for each request."""
        body = self._body(seed)
        answer = httpx.post(self._url, json=body, timeout=PATIENCE_S, verify=False)
        self._took(answer, "anew")

    def _kept(self, seed: int) -> None:
        """One connection for as long as the router keeps it."""
        with httpx.Client(timeout=PATIENCE_S) as client:
            while not self._over.is_set():
                self._took(client.post(self._url, json=self._body(seed)), "kept")

    def _streamed(self, seed: int) -> None:
        """Long answers, token by token."""
        body = {**self._body(seed), "max_tokens": 200, "stream": True}
        began, lines, request_id = time.monotonic(), list[str](), ""
        asked = {"x-baton-explain": "1"}
        try:
            with httpx.stream(
                "POST", self._url, json=body, timeout=STALL_S, headers=asked
            ) as answer:
                request_id = answer.headers.get("x-request-id", "")
                lines.extend(filter(None, answer.iter_lines()))
        except httpx.TransportError as error:
            after = f"{len(lines)} lines, {time.monotonic() - began:.0f} s"
            raise AssertionError(f"{error!r} after {after}: {self._story(request_id)}") from error
        assert lines[-1] == "data: [DONE]", lines[-1]
        assert not any('"error"' in line for line in lines)
        assert len(lines) > 200 / 8
        self.well["streamed"] = self.well.get("streamed", 0) + 1
        self._over.wait(1.0)

    def _story(self, request_id: str) -> str:
        """As its router tells it, if that one can be reached."""
        url = self._url.replace("/v1/completions", f"/story/{request_id}")
        answers = (httpx.get(url, timeout=PATIENCE_S) for _ in range(8))
        return next((a.text for a in answers if a.status_code == 200), "unknown")


def _drained(run_dir: Path, *names: str) -> None:
    assert cli.main(["drain", *names, "--set", f"cluster.run_dir={run_dir}"]) == 0


def test_nobody_notices_a_rolling_restart(
    served: Served, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers, routers = _members(served), _both(served)
    with _Load(served) as load:
        until(lambda: len(load.well) == 3, 30, "all kinds of clients are served")
        _drained(run_dir, "prefill-0", "router-0")
        # The only decode worker, for which the prefill worker stands in, and a router with it.
        decode, router = workers["decode-0"]["pid"], routers["router-1"]["pid"]
        os.kill(decode, signal.SIGTERM)
        os.kill(router, signal.SIGTERM)
        until(lambda: _is_back(_members(served)["decode-0"], decode), BACK_S, "a decode worker")
        until(lambda: _is_back(_routers(served)["router-1"], router), BACK_S, "a new router")
    shown = capsys.readouterr().out
    print(shown, load.well)
    # A router without streams has gone sooner than somebody looks again.
    for words in ("prefill-0: draining", "router-0: asked, its successor starts"):
        assert words in shown
    for name in ("prefill-0", "router-0"):
        assert f"{name}: ready" in shown
    assert cli.main(["drain", "nobody", "--set", f"cluster.run_dir={run_dir}"]) == 1
    assert load.failed == [], "\n".join([*load.failed, *served.lines[-60:]])
    assert min(load.well.values()) >= 5
    once_more = {name: was["restarts"] + 1 for name, was in {**workers, **routers}.items()}
    until(lambda: _restarts(served) == once_more, 10, "each was restarted once")
    assert not any(lives(was["pid"]) for was in {**workers, **routers}.values())
