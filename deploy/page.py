"""The frame of reports that are one HTML file: nothing to fetch, nothing to run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from deploy.chart import CSS, Chart

_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 24px auto; max-width: 1180px; color: #171b21;
       background: #f4f5f7; padding: 0 16px; }
table { border-collapse: collapse; background: #fff; margin: 8px 0 20px; }
td, th { border: 1px solid #e2e6eb; padding: 4px 10px; text-align: right; }
td:first-child, th:first-child { text-align: left; }
.charts { display: flex; flex-wrap: wrap; gap: 16px; } .charts > * { flex: 1 1 480px; }
.warn { background: #fdf3dc; padding: 8px 12px; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """The whole file. `title` is text, `body` HTML."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}{CSS}</style><body>" + "\n".join(body) + "</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    return f"<table>{_row(head, 'th')}{''.join(_row(cells, 'td') for cells in rows)}</table>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def pictures(charts: Iterable[Chart]) -> str:
    """Charts side by side, as far as there is room."""
    shown = "\n".join(f"<div>{chart.svg()}</div>" for chart in charts)
    return f'<div class="charts">\n{shown}\n</div>'
