"""The report: complete, of one file, and nothing in it that others wrote is taken as HTML."""

import re
from html.parser import HTMLParser

from deploy.bench.client import Outcome
from deploy.bench.figures import Slo, figures, parse_slo
from deploy.bench.report import html, in_flight, lines
from deploy.bench.runner import Run
from tests.unit.deploy.bench.test_figures import answer, failure

SLO = parse_slo("ttft=0.5,tpot=0.3")


class Tags(HTMLParser):
    """Which tags there are, and that all are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == "html" or self.open.pop() == tag

    def handle_startendtag(self, tag: str, _attrs: object) -> None:
        self.seen.append(tag)


def report(*outcomes: Outcome, slo: Slo = SLO) -> str:
    run = Run(list(outcomes), took_s=5)
    return html(figures(run, slo, 0.0, 5.0), slo, run, {"url": "http://x", "load": "a <b> mix"})


def test_the_report_is_one_file_that_fetches_and_runs_nothing() -> None:
    text = report(*(answer(i) for i in range(5)), failure(1, "HTTP 500", said="<script>x()"))
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen.count("svg") == 5
    assert not {"script", "link", "img", "b"} & set(tags.seen)
    assert not re.search(r"(src|href)=", text)
    assert "&lt;script&gt;x()" in text
    assert "TTFT within 0.5 s, TPOT within 0.3 s" in text


def test_a_run_without_answers_has_a_report() -> None:
    assert "nothing to show" in report(failure(0, "no connection"), slo=Slo())


def test_lines_for_a_terminal() -> None:
    run = Run([answer(0), answer(1), failure(2, "HTTP 429 queue_full", 2.0)])
    text = "\n".join(lines(figures(run, SLO, 0.0, 4.0), SLO))
    assert "3 requests in 4.0 s (0.75/s): 2 completed, 1 failed" in text
    assert "1 x HTTP 429 queue_full, Retry-After 1 times (2.0 s on average)" in text
    assert re.search(r"TTFT +100\.0 +100\.0", text)
    assert "goodput 0.50 requests/s, 66.7% of all" in text
    assert "warning" not in text


def test_in_flight_goes_up_and_down() -> None:
    first, second = answer(0.0), answer(0.1)
    assert [now for _, now in in_flight([first, second])] == [1, 2, 1, 0]
