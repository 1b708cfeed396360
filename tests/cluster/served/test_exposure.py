"""Nothing listens beyond loopback unless a setting says so."""

from __future__ import annotations

import psutil
import pytest

from benchmarks.served import Served

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_only_loopback_is_open(served: Served) -> None:
    family = psutil.Process(served.process.pid)
    open_sockets = [
        (process.name(), connection.laddr)
        for process in [family, *family.children(recursive=True)]
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert open_sockets
    exposed = [
        (name, address)
        for name, address in open_sockets
        if not address.ip.startswith("127.") and address.ip not in {"::1", "::ffff:127.0.0.1"}
    ]
    assert exposed == []
