"""How a router's last clients are let go. No socket is opened."""

from types import SimpleNamespace
from typing import Any

from deploy.doorway import Doorway, Farewell


class Connection:
    def __init__(self, server: "Http", *, busy: bool = False, new: bool = False) -> None:
        self.server = server
        self.cycle = None if new else SimpleNamespace(response_complete=not busy)

    def shutdown(self) -> None:
        self.server.server_state.connections.discard(self)
        self.server.closed.append(self)


class Http:
    """What a doorway sees of uvicorn."""

    def __init__(self) -> None:
        self.uvicorn = self
        self.server_state = SimpleNamespace(connections=set())
        self.listening = True
        self.servers = [self]
        self.closed: list[Connection] = []

    def close(self) -> None:
        self.listening = False

    def connect(self, **how: bool) -> Connection:
        connection = Connection(self, **how)
        self.server_state.connections.add(connection)
        return connection


class Clock:
    """Passes only when somebody waits; then the next event happens."""

    def __init__(self, *events: Any) -> None:
        self.now_s = 0.0
        self.events = dict(events)

    def now(self) -> float:
        return self.now_s

    async def pause(self, seconds: float) -> None:
        self.now_s = round(self.now_s + seconds, 3)
        assert self.now_s < 100
        if event := self.events.pop(self.now_s, None):
            event()


async def test_the_quiet_go_after_a_moment_and_the_busy_when_they_are_done() -> None:
    http, times = Http(), {}
    idle, fresh, busy = http.connect(), http.connect(new=True), http.connect(busy=True)

    def answered() -> None:
        busy.cycle.response_complete = True
        times["before"] = list(http.closed)

    clock = Clock((20.0, answered))
    farewell = Farewell(lambda *_: None)
    await Doorway(http, farewell, clock.now, clock.pause).close()
    assert farewell.begun
    assert not http.listening
    assert set(times["before"]) == {idle, fresh}
    assert http.closed[-1] is busy
    assert 23 <= clock.now_s < 24


async def test_who_asks_again_in_time_is_not_cut_off() -> None:
    http = Http()
    one = http.connect()

    def asks() -> None:
        one.cycle = SimpleNamespace(response_complete=False)

    def gone() -> None:
        http.server_state.connections.discard(one)

    clock = Clock((2.5, asks), (30.0, gone))
    await Doorway(http, Farewell(lambda *_: None), clock.now, clock.pause).close()
    assert http.closed == []


async def headers(farewell: Farewell, scope: dict[str, Any]) -> list[Any]:
    sent: list[Any] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await farewell(scope, lambda: None, send)
    return sent[0].get("headers", [])


async def test_answers_say_so_once_it_has_begun() -> None:
    async def app(scope, _receive, send) -> None:
        kind = "http.response.start" if scope["type"] == "http" else "lifespan.startup.complete"
        await send({"type": kind, "headers": [(b"connection", b"keep-alive")]})
        await send({"type": "http.response.body", "body": b"x"})

    farewell = Farewell(app)
    kept = [(b"connection", b"keep-alive")]
    assert await headers(farewell, {"type": "http"}) == kept
    farewell.begun = True
    assert await headers(farewell, {"type": "http"}) == [(b"connection", b"close")]
    assert await headers(farewell, {"type": "lifespan"}) == kept
