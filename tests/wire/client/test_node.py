"""Another language: a Node.js client made of the .proto file alone streams tokens."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from baton_client import OverloadedError
from baton_client.testing import FakeBaton
from baton_client.v1 import service_pb2 as pb

HERE = Path(__file__).resolve().parent
PROTO = HERE.parents[2] / "client" / "proto" / "baton_client" / "v1" / "service.proto"
MISSING = [name for name in ("node", "npm") if shutil.which(name) is None]


def run(*command: object, folder: Path) -> str:
    arguments = [str(part) for part in command]
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.timeout(180)
@pytest.mark.skipif(bool(MISSING), reason=f"missing here: {', '.join(MISSING)}")
def test_node_streams_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    shutil.copytree(HERE / "node", folder)
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", folder=folder)
    with FakeBaton() as fake:
        fake.answer("one", " two", " three", " four")
        fake.fail(OverloadedError("the queue is full", reason="queue_full"))
        lines = run("node", "stream.js", PROTO, fake.address, folder=folder).splitlines()
        *messages, ended, refused = map(json.loads, lines)
    assert [message["deltas"][0]["text"] for message in messages[:3]] == ["one", " two", " three"]
    assert messages[2]["deltas"][0]["finish_reason"] == "FINISH_REASON_LENGTH"
    assert messages[0]["request_id"] == fake.requests[0].request_id
    assert messages[3]["usage"]["completion_tokens"] == 3
    assert ended["code"] == 0
    assert refused == {"code": 8, "details": "the queue is full"}
    assert fake.requests[0].prompt == pb.Prompt(text="one two three four")
    assert fake.metadata[0]["x-baton-tenant"] == "node"
