"""The table: one line per change where there is no terminal, rows for all where there is one."""

import io

import pytest
from rich.console import Console

from baton.ids import RouterId, WorkerId
from baton.messages import ClusterView, Member, Role, WorkerState
from cluster.controller import ClusterStatus
from cluster.ports import RouterRow
from deploy.table import Screen, cells_of_page


def status(detail: str, state: WorkerState = WorkerState.STARTING) -> ClusterStatus:
    member = Member(WorkerId("prefill-0"), Role.PREFILL, state, detail=detail, restarts=1)
    router = RouterRow(RouterId("router-0"), WorkerState.READY, "http://h:1", "", 0, 5)
    return ClusterStatus("starting", ClusterView(1, (member,)), (router,), None)


def test_a_log_gets_one_line_per_change() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=40))
    with screen:
        screen.show(status("loading 10%"))
        screen.show(status("loading 20%"))
        screen.show(
            status("[red] a long reason that no console may fold or colour", WorkerState.GONE)
        )
    assert out.getvalue().splitlines() == [
        "prefill-0: starting loading, restarts 1",
        "router-0: ready http://h:1, pid 5",
        "prefill-0: gone [red] a long reason that no console may fold or colour, restarts 1",
    ]


def test_a_log_says_nothing_twice_and_nothing_of_who_has_not_begun() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=80))
    screen.show(status("", WorkerState.GONE))
    screen.show(status("starting its process"))
    screen.show(status("", WorkerState.GONE))
    assert [line for line in out.getvalue().splitlines() if "prefill" in line] == [
        "prefill-0: starting its process, restarts 1",
        "prefill-0: gone, restarts 1",
    ]


def test_a_terminal_gets_a_table() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, width=120, force_terminal=True))
    with screen:
        screen.show(status("[weights] loading 10%"))
    assert "[weights] loading 10%" in out.getvalue()


def test_a_status_page_has_the_same_rows() -> None:
    page = {"members": [{"worker_id": "decode-0", "role": "decode", "state": "ready",
                         "detail": "", "pid": 7, "address": "h:1", "restarts": 0}]}  # fmt: skip
    assert cells_of_page(page) == [("decode-0", "decode", "ready", "", "7", "h:1", "0")]


def test_a_status_page_shows_the_routers_old_ones_too() -> None:
    row = {"router_id": "router-0", "state": "ready", "detail": "", "pid": 7, "address": "http://h"}
    new, old = ({**row, "restarts": n, "replaced": n == 0} for n in (1, 0))
    assert cells_of_page({"routers": [new, old]}) == [
        ("router-0", "router", "ready", "", "7", "http://h", "1"),
        ("router-0 (old)", "router", "ready", "", "7", "http://h", "0"),
    ]


def test_a_status_page_names_blocks_out_of_use() -> None:
    member = {
        "worker_id": "decode-0",
        "role": "decode",
        "state": "ready",
        "detail": "",
        "pid": 1,
        "address": "a:1",
        "restarts": 0,
    }
    worker = {"worker_id": "decode-0", "transfer": {"quarantined_blocks": 12}}
    (row,) = cells_of_page({"members": [member], "workers": [worker]})
    assert row[3] == "KV blocks: 12 quarantined"
    fenced = {**worker, "transfer": {"quarantined_blocks": 12, "fenced_blocks": 3}}
    (row,) = cells_of_page({"members": [member], "workers": [fenced]})
    assert row[3] == "KV blocks: 12 quarantined, 3 fenced"
    (row,) = cells_of_page({"members": [member], "workers": [{**worker, "transfer": None}]})
    assert row[3] == ""


class Gone(io.StringIO):
    """A terminal that is there no more."""

    def __init__(self, error: type[OSError]) -> None:
        super().__init__()
        self.error = error

    def write(self, _: str) -> int:
        raise self.error

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("error", [OSError, BrokenPipeError])
def test_nobody_has_to_read_it(
    error: type[OSError], monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    monkeypatch.setattr("sys.stdout", Gone(error))
    monkeypatch.setenv("TERM", "xterm" if terminal else "dumb")
    screen = Screen()
    screen.say("starting")
    with screen:
        screen.show(status("loading 10%"))
        screen.say("ready")
