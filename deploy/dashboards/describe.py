"""The dashboards and rules as Markdown: what `docs/dashboards.md` holds of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.dashboards.files import DASHBOARDS
from deploy.dashboards.model import Dashboard
from deploy.dashboards.rules import ALERTS, RECORDINGS

BEGIN = "<!-- generated from deploy/dashboards: `python -m deploy.dashboards.describe` -->"


def as_markdown() -> str:
    """All tables."""
    lines = [BEGIN]
    for dashboard in DASHBOARDS:
        lines += _dashboard(dashboard)
    return "\n".join([*lines, *_alerts(), *_recordings()]) + "\n"


def fresh(text: str) -> str:
    """The document with its tables as they are now. Raises ValueError without a place for them."""
    return text[: text.index(BEGIN)] + as_markdown()


def _dashboard(dashboard: Dashboard) -> Iterator[str]:
    yield from ("", f"## {dashboard.title}", "", dashboard.question)
    choices = ", ".join(variable.title.lower() for variable in dashboard.variables)
    yield from ("", f"Choices: data source, {choices}.")
    for note in dashboard.annotations:
        yield from ("", f"Marks: *{note.name}* ({note.text}).")
    for row in dashboard.rows:
        yield from ("", f"**{row.title}**", "")
        panels = ((p.title, p.unit, p.kind, p.text) for p in row.panels)
        yield from _table(("panel", "unit", "shown as", "what it tells, and what to do"), panels)


def _alerts() -> Iterator[str]:
    yield from ("", "## Alerts", "")
    rows = ((a.name, a.severity, a.since, a.summary, a.action) for a in ALERTS)
    yield from _table(("alert", "severity", "after", "says", "what to do"), rows)


def _recordings() -> Iterator[str]:
    yield from ("", "## Recorded series", "")
    yield from _table(("series", "as"), ((r.record, f"`{r.expr}`") for r in RECORDINGS))


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        cells = (cell.replace("|", r"\|") for cell in row)
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Brings the document up to date."""
    document = Path(__file__).parents[2] / "docs" / "dashboards.md"
    document.write_text(fresh(document.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
