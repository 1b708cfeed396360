"""Every query of every dashboard and rule has data, from a real Prometheus and a real cluster."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.served import Served
from deploy.dashboards.files import DASHBOARDS
from deploy.dashboards.promql import filled
from deploy.dashboards.rules import ALERTS, RECORDINGS
from tests.cluster.asking import BACK_S, LONG_ANSWER, LONG_PROMPT, SHORT, busy, serves, until
from tests.cluster.prometheus import Prometheus, scraping

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
WITHIN_S = 120.0
_CHARACTERS = 4000
MORE_THAN_FIT = 1100
"""A router holds 1,024 requests."""


class _Load:
    """Answers of several clients, and now and then a fault, until it is left."""

    def __init__(self, served: Served) -> None:
        self._url = served.url
        self._over = threading.Event()
        self._faults: list[str] = []
        runs = (self._ask, SHORT), (self._ask, LONG_PROMPT), (self._go_wrong, SHORT)
        self._threads = [threading.Thread(target=run, args=(body,)) for run, body in runs]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        assert self._faults.count("begun") == self._faults.count("done") > 0

    def _ask(self, body: dict[str, Any]) -> None:
        turn = 0
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.wait(0.1):
                turn += 1
                # A prompt that was computed before need not be handed over, and one that takes
                # longer than the deadline of the handoff cannot be, however slow the machine is.
                prompt = f"{turn}: {body['prompt'][:_CHARACTERS]}"
                asked = {**body, "prompt": prompt, "max_tokens": 16}
                client.post("/v1/completions", json=asked)

    def _go_wrong(self, body: dict[str, Any]) -> None:
        path = "/v1/completions"
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.wait(0.5):
                self._faults.append("begun")
                assert client.post(path, json={**body, "model": "nobody"}).status_code == 404
                assert client.post(path, json={**body, "n": MORE_THAN_FIT}).status_code == 429
                long = {**LONG_ANSWER, "stream": True}
                with client.stream("POST", path, json=long) as answer:
                    next(answer.iter_lines())
                self._faults.append("done")


def _everything() -> dict[str, tuple[str, bool]]:
    """What is asked, by where it is asked: the expression, and whether NaN will do."""
    found: dict[str, tuple[str, bool]] = {}
    for page in DASHBOARDS:
        for panel in page.panels:
            for number, query in enumerate(panel.queries):
                expr = filled(query.expr, page.variables, {})
                found[f"{page.uid}: {panel.title} {number}"] = expr, bool(query.idle)
        for note in page.annotations:
            found[f"{page.uid}: mark {note.name}"] = filled(note.expr, page.variables, {}), False
        for variable in page.variables:
            metric, _, label = variable.query.partition(", ")
            expr = f'count by ({label}) ({metric}{{{label}!=""}})'
            found[f"{page.uid}: choice {variable.name}"] = expr, False
    for rule in RECORDINGS:
        found[f"record {rule.record}"] = rule.expr, False
    for alert in ALERTS:
        for number, condition in enumerate(alert.conditions):
            found[f"alert {alert.name} {number}"] = condition.value, False
            if not condition.bound.replace(".", "").isdigit():
                found[f"alert {alert.name} {number}, bound"] = condition.bound, False
    return found


def _without_data(
    prometheus: Prometheus, asked: Mapping[str, tuple[str, bool]]
) -> dict[str, tuple[str, bool]]:
    def has(expr: str, nan_will_do: bool) -> bool:
        values = [value for _, value in prometheus.ask(expr)]
        return bool(values) and (nan_will_do or not all(map(math.isnan, values)))

    return {where: one for where, one in asked.items() if not has(*one)}


@pytest.fixture(scope="module")
def prometheus(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    until(lambda: serves(served), BACK_S, "service")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with scraping(served.url, folder) as server:
        yield server


def test_every_query_has_data_under_load_with_faults(
    served: Served, prometheus: Prometheus
) -> None:
    left = _everything()
    assert len(left) > 100
    with _Load(served):
        began = time.monotonic()
        while left and time.monotonic() < began + WITHIN_S:
            time.sleep(1)
            left = _without_data(prometheus, left)
    assert not left, "\n".join(f"{where}: {expr}" for where, (expr, _) in left.items())


def test_all_routers_and_workers_are_found_and_answer(
    served: Served, prometheus: Prometheus
) -> None:
    listed = httpx.get(f"{served.url}/targets").json()
    assert sorted(group["labels"]["job"] for group in listed) == [
        "baton-router",
        "baton-worker",
        "baton-worker",
    ]
    until(lambda: len(prometheus.ask("up == 1")) == 3, 20, "three targets are up")
    labels = [row for row, _ in prometheus.ask("vllm:num_requests_running")]
    assert sorted((row["worker"], row["role"]) for row in labels) == [
        ("decode-0", "decode"),
        ("prefill-0", "prefill"),
    ]
    assert {row["cluster"] for row in labels} == {"baton"}


def test_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, str]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(r["health"] != "unknown" for r in rules()), 20, "all were evaluated")
    assert len(rules()) == len(RECORDINGS) + len(ALERTS)
    assert [rule for rule in rules() if rule["health"] != "ok"] == []


def test_engines_count_what_was_asked_of_them(served: Served, prometheus: Prometheus) -> None:
    def generated() -> float:
        found = prometheus.ask('sum(vllm:generation_tokens_total{role="decode"})')
        return found[0][1]

    def scraped_since(at: float) -> bool:
        found = prometheus.ask("timestamp(vllm:generation_tokens_total)")
        return all(moment > at for _, moment in found)

    until(lambda: busy(served) == 0, 30, "nothing runs")
    now = time.time()
    until(lambda: scraped_since(now), 30, "a scrape after that")
    before = generated()
    body = {**SHORT, "prompt": "def exactly(tokens):\n", "max_tokens": 37}
    assert httpx.post(f"{served.url}/v1/completions", json=body, timeout=60).status_code == 200
    now = time.time()
    until(lambda: scraped_since(now), 30, "a scrape after the answer")
    assert generated() == before + 37
