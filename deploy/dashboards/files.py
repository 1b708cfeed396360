"""All dashboards, and the files that Grafana and Prometheus read."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from deploy.dashboards import rules
from deploy.dashboards.engines import ENGINES
from deploy.dashboards.kv import KV
from deploy.dashboards.request import REQUEST
from deploy.dashboards.routing import ROUTING
from deploy.dashboards.scaling import SCALING
from deploy.dashboards.slo import SLO

DASHBOARDS = (SLO, REQUEST, ROUTING, KV, SCALING, ENGINES)
RULES = "baton-rules.yaml"
PROMETHEUS = "prometheus.yaml"
_HEADER = "# Written by `baton dashboards`: change it there, or copy it.\n"


def files(url: str, interval: str = "15s") -> dict[str, str]:
    """Names and contents. `url`: of a router, whose /targets says what there is to scrape."""
    found = {f"{d.uid}.json": json.dumps(d.as_json(), indent=2) + "\n" for d in DASHBOARDS}
    found[RULES] = _HEADER + rules.as_yaml()
    found[PROMETHEUS] = _HEADER + _prometheus(url, interval)
    return found


def write(folder: Path, url: str) -> list[Path]:
    """Writes all of them into a folder, which is made; older ones are replaced. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files(url).items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _prometheus(url: str, interval: str) -> str:
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [RULES],
        # The router says where all routers and workers are, and what to call them.
        "scrape_configs": [
            {
                "job_name": "baton",
                "http_sd_configs": [{"url": f"{url}/targets", "refresh_interval": interval}],
            }
        ],
    }
    text: str = yaml.safe_dump(config, sort_keys=False)
    return text
