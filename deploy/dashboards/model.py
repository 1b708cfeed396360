"""Panels, rows and dashboards, and how they look in Grafana's JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

GRID = 24
"""Columns of Grafana's grid."""
SCHEMA_VERSION = 39
REFRESH = "10s"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_GREEN, _ORANGE, _RED = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """One line, bar or cell: PromQL, and the text in the legend."""

    expr: str
    legend: str = ""
    idle: str = ""
    """Why it may have nothing but NaN in a healthy cluster under load; empty = it must not."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `text` tells an operator what it means and what to do."""

    title: str
    unit: str
    text: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "bargauge", "table"] = "timeseries"
    width: int = 8
    height: int = 8
    stack: bool = False
    steps: tuple[float, ...] = ()
    """Where green turns to orange, and orange to red; falling = less is worse."""
    top: float | None = None
    """Highest value of the axis; None = as the data is."""


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label. All of them at first."""

    name: str
    query: str
    """A metric and a label, as label_values takes them."""
    title: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """Marks in every picture where `expr` is above 0."""

    name: str
    expr: str
    text: str
    colour: str = "blue"

    @property
    def query(self) -> str:
        """What Grafana asks; it draws a mark wherever there is a value, 0 included."""
        return f"({self.expr}) > 0"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    question: str
    """What it answers."""
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...] = ()

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them, from top to bottom."""
        return tuple(panel for row in self.rows for panel in row.panels)

    def as_json(self) -> dict[str, Any]:
        """As Grafana imports it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.question,
            "tags": ["baton"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "graphTooltip": 1,
            "refresh": REFRESH,
            "time": {"from": "now-1h", "to": "now"},
            "templating": {"list": [_datasource(), *map(_variable, self.variables)]},
            "annotations": {"list": [_annotation(one) for one in self.annotations]},
            "links": [_links()],
            "panels": _placed(self.rows),
        }


def _placed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        found.append(_heading(row, len(found) + 1, y))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > GRID:
                x, y, tallest = 0, y + tallest, 0
            found.append(_panel(panel, len(found) + 1, (x, y)))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return found


def _heading(row: Row, number: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": GRID, "h": 1},
        "panels": [],
    }


def _panel(panel: Panel, number: int, at: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": {"x": at[0], "y": at[1], "w": panel.width, "h": panel.height},
        "targets": [_target(panel, one, n) for n, one in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(panel: Panel, query: Query, number: int) -> dict[str, Any]:
    # A table and a bar show what is, a line what was.
    instant = panel.kind in ("table", "bargauge")
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel.steps)}
    if panel.top is not None:
        found["max"] = panel.top
    if panel.kind == "timeseries":
        found["custom"] = {
            "fillOpacity": 40 if panel.stack else 8,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        }
    return found


def _thresholds(steps: tuple[float, ...]) -> dict[str, Any]:
    colours = [_GREEN, _ORANGE, _RED]
    if list(steps) != sorted(steps):
        colours, steps = [_RED, _ORANGE, _GREEN], tuple(sorted(steps))
    listed: list[dict[str, Any]] = [{"color": colours[0], "value": None}]
    listed += [{"color": c, "value": at} for c, at in zip(colours[1:], steps, strict=False)]
    return {"mode": "absolute", "steps": listed}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        legend = {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "lastNotNull"]}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "table":
        return {"showHeader": True}
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
    return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "area"}


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({variable.query})", "refId": variable.name},
        "definition": f"label_values({variable.query})",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        # Series without the label are among all of them.
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _annotation(annotation: Annotation) -> dict[str, Any]:
    return {
        "name": annotation.name,
        "datasource": _SOURCE,
        "enable": True,
        "expr": annotation.query,
        "iconColor": annotation.colour,
        "titleFormat": annotation.name,
        "textFormat": annotation.text,
        "step": "15s",
    }


def _links() -> dict[str, Any]:
    return {
        "title": "Baton",
        "type": "dashboards",
        "tags": ["baton"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }
