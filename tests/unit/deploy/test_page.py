"""The frame of reports: text stays text."""

from __future__ import annotations

from deploy.chart import Chart, Series
from deploy.page import page, pictures, table


def test_text_cannot_become_html() -> None:
    shown = page("<a>", [table(("<b>",), [("<c>", "&")])])
    assert "<title>&lt;a&gt;</title>" in shown
    assert "<th>&lt;b&gt;</th>" in shown
    assert "<td>&lt;c&gt;</td><td>&amp;</td>" in shown
    assert shown.endswith("</body></html>\n")


def test_pictures_stand_in_one_row() -> None:
    chart = Chart("one", "x", "y", [Series("a", [(1.0, 2.0), (2.0, 3.0)])])
    assert pictures([chart, chart]).count("<svg") == 2
