"""The engine link where something breaks: who is given up, who fails, and who goes on."""

from __future__ import annotations

import asyncio

import pytest

from baton.errors import Reason
from baton.ids import RequestId
from router import engine_link
from router.engine_link import failure_of
from tests.wire import test_engine_link
from tests.wire.fakes import Script
from tests.wire.served import until
from tests.wire.test_engine_link import House

house = test_engine_link.house


@pytest.mark.parametrize("frames", [(b"\x00", b"\xc1"), (b"\x00", b"\x93"), (b"\x09",), (b"\x01",)])
async def test_one_that_talks_nonsense_is_given_up(house: House, frames: tuple) -> None:
    house.heart.script = Script(tokens=[5], endless=True, delay_s=0.005)
    sane, mad = await house.front("f0"), await house.front("f1")
    await sane.ask("a", 20)
    await mad.ask("a", 10_000)
    await mad.step()
    await mad.send_raw(*frames)
    await until(lambda: house.lost == ["f1"])
    assert house.heart.aborted == ["f1/a"]
    assert len(await sane.tokens("a")) == 20


@pytest.mark.parametrize("breaks", [KeyError("x"), AttributeError("y")])
async def test_a_request_that_breaks_its_taking_fails_alone(
    house: House, monkeypatch: pytest.MonkeyPatch, breaks: Exception
) -> None:
    house.heart.script = Script(tokens=[5], endless=True, delay_s=0.005)
    front = await house.front()
    await front.ask("a", 20)
    await front.step()

    def broken(*_args: object) -> None:
        raise breaks

    with monkeypatch.context() as patched:
        patched.setattr(house.heart, "submit", broken)
        await front.ask("b")
        output = (await front.answer("b"))[-1]
    assert failure_of(output).reason is Reason.INTERNAL
    await front.ask("c", 3)
    assert len(await front.tokens("c")) == 3
    await until(lambda: not house.links.open)
    assert (house.lost, house.links.attached) == ([], ("f0",))


async def test_reading_goes_on_after_an_error(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, said: heard.append(said["exception"]))
    house.heart.script = Script(tokens=[5])
    front = await house.front()

    def broken(*_args: object) -> None:
        raise KeyError("a")

    monkeypatch.setattr(house.links, "drop", broken)
    await front.abort("a")
    await front.ask("b")
    await front.answer("b")
    assert [type(one) for one in heard] == [KeyError]


async def test_two_requests_of_one_name_end(house: House) -> None:
    house.heart.script = Script(tokens=[5], endless=True, delay_s=0.005)
    front = await house.front()
    await front.ask("a", 10_000)
    await front.step()
    await front.ask("a")
    said = failure_of((await front.answer("a"))[-1])
    assert said.reason is Reason.INVALID_REQUEST
    assert house.heart.aborted == ["f0/a"]
    assert not house.links.open


async def test_one_that_reads_nothing_is_given_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_link, "_QUEUED_MAX", 8)
    house.heart.script = Script(tokens=[5] * 100, endless=True)
    front = await house.front()
    front._output.close()
    await front.ask("a", 10_000)
    await until(lambda: house.lost == ["f0"])
    assert house.heart.aborted == ["f0/a"]


async def test_outputs_that_cannot_be_read_fail_their_requests(house: House) -> None:
    house.heart.script = Script(hang=True, tokens=[1])
    front = await house.front()
    await front.ask("a")
    await until(lambda: len(house.links.open) == 1)
    one = RequestId("f0/a")
    assert house.links.deliver([b"\xc1"], {"leg": one, "other": RequestId("elsewhere")}) == [one]
    (output,) = await front.answer("a")
    assert "cannot be read" in str(output.stop_reason)
