"""On one machine an address is what it says; on several each process takes its own."""

import pytest

from cluster.addresses import listen_at, reached_at, spans_machines, with_port


@pytest.mark.parametrize(
    ("bind_host", "listens", "reached", "spans"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", False),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7", False),
        ("somewhere", "somewhere", "somewhere", False),
        ("0.0.0.0", "0.0.0.0", "10.0.0.9", True),
        ("::", "::", "10.0.0.9", True),
        ("node", "10.0.0.9", "10.0.0.9", True),
    ],
)
def test_where_a_process_listens_and_is_reached(
    bind_host: str, listens: str, reached: str, spans: bool
) -> None:
    assert listen_at(bind_host, lambda: "10.0.0.9") == listens
    assert reached_at(bind_host, lambda: "10.0.0.9") == reached
    assert spans_machines(bind_host) is spans


def test_nobody_is_asked_where_the_setting_says_it() -> None:
    def own() -> str:
        raise AssertionError("there may be no Ray to ask")

    assert listen_at("127.0.0.1", own) == reached_at("127.0.0.1", own) == "127.0.0.1"


def test_a_port_is_told_from_an_address_with_colons() -> None:
    assert with_port("10.0.0.9", 80) == "10.0.0.9:80"
    assert with_port("fd00::9", 80) == "[fd00::9]:80"
