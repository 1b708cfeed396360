"""`baton ask` and `baton status` against a tiny server that speaks like a router."""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from baton.errors import BatonError, Reason
from baton.ids import WorkerId
from deploy import cli
from deploy.rundir import RunState
from router.policy.decode_choice import DecodeCandidate, DecodeChoice, DecodeWhy
from router.policy.division import Forecast, Promise
from router.policy.explanation import Explanation, PrefillPart, Weighed

pytestmark = pytest.mark.wire


PREFILL = PrefillPart(
    WorkerId("p0"),
    "warmest",
    1.5,
    fresh=True,
    waited_s=0.012,
    moved=False,
    asked=(WorkerId("p0"), WorkerId("p1")),
    candidates=(Weighed(WorkerId("p0"), 512, 0.1, 0.3, 0.5),),
)
DECODE = DecodeChoice(
    WorkerId("d0"), DecodeWhy.FASTEST, (DecodeCandidate(WorkerId("d0"), 0.02, 0.001, 4096),)
)
WHY = Explanation(
    "affinity",
    "disaggregated",
    600,
    1024,
    0.25,
    (WorkerId("p0"), WorkerId("p1")),
    Promise(2.0, 0.1),
    Forecast(0.5, 0.02),
    Forecast(0.6, 0.3),
    PREFILL,
    DECODE,
    ("p1 sent it back: full",),
)
PLAN = {
    "request_id": "chat 1",
    "phase": "streaming",
    "prefill": "p0",
    "decode": "d0",
    "reason": "disaggregated",
    "line": WHY.line(),
    "why": asdict(WHY),
}


class Router(BaseHTTPRequestHandler):
    """Answers with what the test put into `script`."""

    script: ClassVar[list[Any]] = []
    refusal: ClassVar[tuple[int, dict[str, Any]] | None] = None
    bodies: ClassVar[list[dict[str, Any]]] = []
    key: ClassVar[str] = ""
    status: ClassVar[dict[str, Any] | None] = {"inflight": 0, "members": []}

    def do_GET(self) -> None:
        if self.locked():
            return
        pages: dict[str, Any] = {
            "/v1/models": {"data": [{"id": "tiny"}]},
            "/ready": {},
            "/status": self.status,
            "/story/chat%201": "request chat 1: closed",
            "/explain/chat%201": {"plans": [PLAN, {**PLAN, "why": None}]},
        }
        found = pages.get(self.path)
        status = 404 if found is None else 200
        self.reply(status, json.dumps(found), "application/json")

    def locked(self) -> bool:
        wrong = bool(self.key) and self.headers["Authorization"] != f"Bearer {self.key}"
        if wrong:
            error = BatonError(Reason.UNAUTHENTICATED, "An API key is needed.")
            self.reply(401, json.dumps(error.to_openai()), "application/json")
        return wrong

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.bodies.append({"path": self.path, **json.loads(self.rfile.read(length))})
        if self.refusal is not None:
            status, body = self.refusal
            self.reply(status, json.dumps(body), "application/json")
            return
        lines = [event if isinstance(event, str) else json.dumps(event) for event in self.script]
        text = "".join(f"data: {line}\n\n" for line in lines)
        self.reply(200, f": a comment\n\n{text}", "text/event-stream")

    def reply(self, status: int, text: str, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_args: object) -> None: ...


@pytest.fixture
def router() -> Iterator[tuple[type[Router], list[str]]]:
    fresh = type("FreshRouter", (Router,), {"script": [], "bodies": [], "refusal": None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), fresh)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield fresh, ["--url", f"http://127.0.0.1:{server.server_port}/v1"]
    server.shutdown()
    thread.join()
    server.server_close()


def completion(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": reason}]}


USAGE = {"choices": [], "usage": {"completion_tokens": 3}}


def test_a_completion(router: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server, url = router
    server.script += [completion("a"), completion("b"), completion("c", "stop"), USAGE, "[DONE]"]
    assert cli.main(["ask", "hello", "--max-tokens", "3", "--temperature", "0", *url]) == 0
    out, err = capsys.readouterr()
    assert out == "abc\n"
    assert err.startswith("[3 tokens, TTFT ")
    assert "TPOT" in err
    assert "tokens/s]" in err
    (body,) = server.bodies
    assert (body["path"], body["prompt"]) == ("/v1/completions", "hello")
    assert (body["max_tokens"], body["temperature"], body["model"]) == (3, 0, "tiny")


def test_a_chat_as_json(router: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server, url = router
    deltas = [{"role": "assistant", "content": ""}, {"content": "hi"}, {"content": "!"}]
    server.script += [{"choices": [{"delta": delta}]} for delta in deltas]
    server.script += [{"choices": [{"delta": {}, "finish_reason": "length"}]}, USAGE, "[DONE]"]
    assert cli.main(["ask", "--chat", "hello", "--json", *url]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["text"], answer["tokens"], answer["finish_reason"]) == ("hi!", 3, "length")
    assert answer["ttft_s"] <= answer["total_s"]
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "hello"}]


def test_a_refusal_is_told(router: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server, url = router
    server.refusal = (429, {"error": {"message": "no room", "code": "queue_full"}})
    assert cli.main(["ask", "hello", *url]) == 1
    assert capsys.readouterr().err == (
        "baton: error: no room\nhint: Try again in a moment.\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"error": {"message": "worker lost", "code": "worker_lost"}}, "worker lost"),
        ("{half", "not an event of a stream"),
        (USAGE, "the answer held no token"),
    ],
)
def test_a_stream_that_goes_wrong(
    router: Any, event: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server, url = router
    server.script += [event]
    assert cli.main(["ask", "hello", *url]) == 1
    assert f"baton: error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["ask", "hello"], ["status"]])
def test_nobody_there(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--url", "http://127.0.0.1:9"]) == 1
    assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().err


def test_status(router: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, url = router
    assert cli.main(["status", "--json", *url]) == 0
    assert json.loads(capsys.readouterr().out)["ready"] is True
    assert cli.main(["status", *url]) == 0
    assert ": ready" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["status"], ["scale"], ["drain", "--all"]])
def test_who_is_no_router(
    words: list[str], router: Any, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("deploy.commands._running", lambda _: RunState("c", 1, 1, 0.0, "", True))
    server, url = router
    monkeypatch.setattr(server, "status", None)
    assert cli.main([*words, *url]) == 1
    assert "/status answered 404: that is no router of Baton" in capsys.readouterr().err


def test_explain_says_who_was_weighed_and_why(router, capsys) -> None:
    _, url = router
    assert cli.main(["explain", "chat 1", *url]) == 0
    shown = capsys.readouterr().out
    for words in (
        "prefill: warmest (caches known",
        "asked: p0, p1",
        "* p0",
        "512",
        "key of 1024 tokens, 25.0%",
        "whole: TTFT 600.0 ms, TPOT 300.0 ms",
        "p1 sent it back: full",
        "decode: fastest",
        "4096",
    ):
        assert words in shown
    assert cli.main(["explain", "chat 1", "--json", *url]) == 0
    assert json.loads(capsys.readouterr().out)[0]["prefill"] == "p0"


def test_a_story_is_told(router, capsys) -> None:
    assert cli.main(["story", "chat 1", *router[1]]) == 0
    assert "request chat 1: closed" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["explain", "story"])
def test_nobody_is_an_error(router, capsys, command: str) -> None:
    _, url = router
    assert cli.main([command, "nobody", *url]) == 1
    assert "no request 'nobody' is known" in capsys.readouterr().err


COMMANDS = (["ask", "hello"], ["status"], ["story", "chat 1"], ["explain", "chat 1"])


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_key_lets_the_commands_in(
    router: Any,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, url = router
    server.key = "bt-1-secret"
    server.script += [completion("a", "stop"), USAGE, "[DONE]"]
    assert cli.main([*words, *url]) == 1
    refused = capsys.readouterr().err
    assert "An API key is needed." in refused
    assert "BATON_API_KEY" in refused
    assert cli.main([*words, *url, "--api-key", "bt-1-secret"]) == 0
    monkeypatch.setenv("BATON_API_KEY", "bt-1-secret")
    assert cli.main([*words, *url]) == 0
    monkeypatch.setenv("BATON_API_KEY", "bt-1-other")
    assert cli.main([*words, *url]) == 1
    told = capsys.readouterr()
    assert "secret" not in told.out + told.err
    assert "other" not in told.out + told.err
