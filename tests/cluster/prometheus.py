"""A real Prometheus server that scrapes a cluster under test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.dashboards.files import PROMETHEUS, files
from tests.cluster.asking import free_port, until


class Prometheus:
    """Its HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **params: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, f"{params}: {answer.text}"
        return answer.json()["data"]

    def ask(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values now."""
        found = self.get("query", query=expr)["result"]
        return [(row["metric"], float(row["value"][1])) for row in found]

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def scraping(router: str, folder: Path) -> Iterator[Prometheus]:
    """Runs with the files that `baton dashboards` writes, every second; at the end it is gone."""
    binary = shutil.which("prometheus")
    assert binary is not None, "prometheus is missing; Debian has it in the package prometheus"
    for name, text in files(router, interval="1s").items():
        (folder / name).write_text(text)
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={folder / PROMETHEUS}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    client = httpx.Client(base_url=f"http://{address}", timeout=20, trust_env=False)
    server = Prometheus(client)
    try:
        until(lambda: process.poll() is not None or server.ready(), 60, "Prometheus is ready")
        assert process.poll() is None, (folder / "log").read_text()
        yield server
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
