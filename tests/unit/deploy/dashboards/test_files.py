"""Every dashboard is what Grafana takes, says what to do, and names metrics that there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from prometheus_client import CollectorRegistry

from baton.clock import ManualClock
from baton.ids import RouterId
from baton.settings import KvTransferSettings, Settings
from cluster.metrics import ClusterCollector, Told
from cluster.ports import ScalingRow
from cluster.tally import ScalingFigures
from deploy.dashboards import describe
from deploy.dashboards.files import DASHBOARDS, PROMETHEUS, RULES, files, write
from deploy.dashboards.model import GRID, Dashboard, Panel
from deploy.dashboards.promql import filled, names
from deploy.dashboards.rules import ALERTS, RECORDINGS
from router.heart import Heart
from router.metrics import RouterMetrics
from router.wire import Identity

BY_PROMETHEUS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
TOLD = Told(None, ScalingRow("auto", 1, 1, figures=ScalingFigures()), 0.0)


def exported() -> Iterator[str]:
    """The series of a router, put together as in its process, without workers."""
    metrics = RouterMetrics()
    Heart(Identity(RouterId("router"), ""), Settings(), ManualClock(), metrics, _no_link)
    metrics.registry.register(ClusterCollector(lambda: TOLD, KvTransferSettings()))
    yield from series(metrics.registry)


def _no_link(*_args: object) -> NoReturn:
    raise AssertionError("there are no workers here")


def series(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        for ending in ENDINGS.get(family.type, ("",)):
            yield f"{family.name}{ending}"


def queries(dashboard: Dashboard) -> Iterator[str]:
    yield from (q.expr for panel in dashboard.panels for q in panel.queries)
    yield from (annotation.query for annotation in dashboard.annotations)
    yield from (variable.query.partition(",")[0] for variable in dashboard.variables)


PANELS = [pytest.param(p, id=f"{d.uid}: {p.title}") for d in DASHBOARDS for p in d.panels]


def test_each_metric_that_is_asked_for_is_exported() -> None:
    asked = {name for d in DASHBOARDS for query in queries(d) for name in names(query)}
    asked |= {name for one in (*ALERTS, *RECORDINGS) for name in names(one.expr)}
    known = {*exported(), *BY_PROMETHEUS, *(one.record for one in RECORDINGS)}
    # Those of vLLM are checked where vLLM is: tests/wire/test_vllm_metrics.py.
    assert {name for name in asked - known if not name.startswith("vllm:")} == set()


def test_each_recorded_series_is_used() -> None:
    used = {name for d in DASHBOARDS for query in queries(d) for name in names(query)}
    used |= {name for one in (*ALERTS, *RECORDINGS) for name in names(one.expr)}
    assert {one.record for one in RECORDINGS} <= used


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_is_and_what_to_do(panel: Panel) -> None:
    assert panel.title
    assert panel.unit
    assert len(panel.text) > 20
    assert panel.text.endswith(".")
    assert panel.queries
    assert all(query.legend for query in panel.queries)
    assert 0 < panel.width <= GRID


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.uid)
def test_no_choice_is_left_over(dashboard: Dashboard) -> None:
    for query in queries(dashboard):
        assert "$" not in filled(query, dashboard.variables, {}), query


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.uid)
def test_the_json_has_every_panel_in_its_own_place(dashboard: Dashboard) -> None:
    page = json.loads(files("http://r")[f"{dashboard.uid}.json"])
    shown = [p for p in page["panels"] if p["type"] != "row"]
    assert [p["title"] for p in shown] == [p.title for p in dashboard.panels]
    assert len({p["id"] for p in page["panels"]}) == len(page["panels"])
    taken: set[tuple[int, int]] = set()
    for place in (p["gridPos"] for p in page["panels"]):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < GRID
        taken |= cells
    assert [v["name"] for v in page["templating"]["list"]] == [
        "datasource",
        *(v.name for v in dashboard.variables),
    ]


def test_titles_and_uids_are_unique_and_alerts_point_to_them() -> None:
    uids = [d.uid for d in DASHBOARDS]
    assert len({*uids}) == len(uids) == len({d.title for d in DASHBOARDS}) == 6
    assert {alert.dashboard for alert in ALERTS} <= {*uids}
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


def test_the_files_are_written_and_read_again(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "folder", "http://router.example:8000")
    assert {path.name for path in written} == {*files("")}
    config = yaml.safe_load((tmp_path / "new" / "folder" / PROMETHEUS).read_text())
    (scrape,) = config["scrape_configs"]
    assert scrape["http_sd_configs"][0]["url"] == "http://router.example:8000/targets"
    assert config["rule_files"] == [RULES]


def test_the_document_describes_the_dashboards_of_today() -> None:
    text = (Path(__file__).parents[4] / "docs" / "dashboards.md").read_text()
    stale = "docs/dashboards.md is stale: run python -m deploy.dashboards.describe"
    assert text == describe.fresh(text), stale
