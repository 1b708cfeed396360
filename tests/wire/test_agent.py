"""Two real NIXL agents: writes, notices, messages, and peers that are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("nixl")

from nixl._api import nixlBind

from baton.errors import BatonError, Reason
from kv_transfer import agent
from kv_transfer.agent import WriteState
from kv_transfer.endpoint import Blocks
from tests.wire.nixl_pair import TENSORS, Child, Engine, ended, until, whole


@pytest.fixture
def pair() -> Iterator[tuple[Engine, Engine]]:
    one, other = Engine(fill=1), Engine(fill=2)
    yield one, other
    one.agent.close()
    other.agent.close()


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[Child]:
    other = Child(polling=getattr(request, "param", True))
    yield other
    other.kill()


def introduce(one: Engine, other: Engine) -> None:
    assert one.agent.connect(other.agent.endpoint())
    assert other.agent.connect(one.agent.endpoint())


def test_a_write_lands_in_its_blocks_and_then_its_notice(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    one.number()
    introduce(one, other)
    handle = one.agent.write(other.name, whole([1, 2, 5], [6, 0, 3]), b"in place")
    assert until(lambda: ended(one, handle), one, other)
    assert until(lambda: other.heard, one, other)
    assert other.heard == [(one.name, b"in place")]
    assert other.all_sums([6, 0, 3]) == one.all_sums([1, 2, 5])
    assert all(other.words(block) == {2} for block in (1, 2, 4, 5, 7))
    assert one.agent.state(handle) is WriteState.DONE
    one.agent.release(handle)


def test_many_writes_land_each_with_its_notice(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    one.number()
    introduce(one, other)
    write = one.agent.write
    handles = {i: write(other.name, whole([i], [7 - i]), b"%d" % i) for i in range(8)}
    assert until(lambda: all(ended(one, h) for h in handles.values()), one, other)
    assert until(lambda: len(other.heard) == 8, one, other)
    assert sorted(message for _, message in other.heard) == [b"%d" % i for i in range(8)]
    assert other.all_sums(range(8)) == one.all_sums(range(7, -1, -1))


def test_messages_go_both_ways(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    introduce(one, other)
    assert one.agent.tell(other.name, b"ping \x00")
    assert other.agent.tell(one.name, b"pong \xff")
    assert until(lambda: one.heard and other.heard, one, other)
    assert other.heard == [(one.name, b"ping \x00")]
    assert one.heard == [(other.name, b"pong \xff")]


def test_whoever_is_introduced_by_a_message_can_be_answered(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    assert one.agent.connect(other.agent.endpoint())
    assert one.agent.tell(other.name, b"it is me")
    assert until(lambda: other.heard, one, other)
    assert not other.agent.tell(one.name, b"who?")
    assert other.agent.connect(one.agent.endpoint())
    assert other.agent.tell(one.name, b"hello")
    assert until(lambda: one.heard, one, other)


def test_a_known_peer_is_not_connected_again(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    introduce(one, other)
    assert not one.agent.connect(other.agent.endpoint())
    assert one.agent.tell(other.name, b"still there")


def test_unlike_memory_is_refused(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    endpoint = other.agent.endpoint()
    layout = replace(endpoint.layout, fingerprint="fp8")
    with pytest.raises(BatonError) as caught:
        one.agent.connect(replace(endpoint, layout=layout))
    assert caught.value.reason is Reason.CONFIG_MISMATCH
    assert not one.agent.tell(other.name, b"anything")


@pytest.mark.parametrize("metadata", [b"", b"garbage"])
def test_metadata_that_nixl_cannot_read_is_a_typed_error(
    pair: tuple[Engine, Engine], metadata: bytes
) -> None:
    one, other = pair
    with pytest.raises(BatonError) as caught:
        one.agent.connect(replace(other.agent.endpoint(), metadata=metadata))
    assert caught.value.reason is Reason.TRANSFER_FAILED
    assert one.agent.connect(other.agent.endpoint())


def test_a_forgotten_peer_hears_nothing_and_can_come_back(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    introduce(one, other)
    one.agent.forget(other.name)
    one.agent.forget(other.name)
    assert not one.agent.tell(other.name, b"anything")
    with pytest.raises(BatonError):
        one.agent.write(other.name, whole([0], [0]), b"")
    assert one.agent.connect(other.agent.endpoint())
    assert one.agent.tell(other.name, b"again")
    assert until(lambda: other.heard, one, other)


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], None]:
    """Lets NIXL say once that the connection has broken, as it does after a cut of the network."""

    def break_once(engine: Engine) -> None:
        nixl: Any = engine.agent._agent
        send = nixl.send_notif

        def refuse(*_args: object) -> None:
            monkeypatch.setattr(nixl, "send_notif", send)
            raise nixlBind.nixlRemoteDisconnectError("cut")

        monkeypatch.setattr(nixl, "send_notif", refuse)

    return break_once


def test_a_connection_that_broke_is_made_anew(
    pair: tuple[Engine, Engine],
    breaks: Callable[[Engine], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = pair
    monkeypatch.setattr(agent, "_RENEW_GAP_S", 0.0)
    introduce(one, other)
    for end, peer in ((one, other), (other, one)):
        breaks(end)
        assert end.agent.tell(peer.name, b"are you there?")
        assert until(lambda peer=peer: peer.heard, one, other)
    handle = one.agent.write(other.name, whole([1], [2]), b"in place")
    assert until(lambda: ended(one, handle) is WriteState.DONE, one, other)
    assert until(lambda: (one.name, b"in place") in other.heard, one, other)


def test_a_connection_that_breaks_at_once_is_not_made_over_and_over(
    pair: tuple[Engine, Engine], breaks: Callable[[Engine], None]
) -> None:
    one, other = pair
    introduce(one, other)
    breaks(one)
    assert not one.agent.tell(other.name, b"are you there?")
    assert one.agent.tell(other.name, b"and now?")


def test_the_gap_doubles_while_connections_do_not_last(
    pair: tuple[Engine, Engine],
    breaks: Callable[[Engine], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = pair
    introduce(one, other)
    now_s = time.monotonic()
    monkeypatch.setattr(agent.time, "monotonic", lambda: now_s)

    def renewed_after(seconds: float) -> bool:
        nonlocal now_s
        now_s += seconds
        breaks(one)
        return one.agent.tell(other.name, b"are you there?")

    assert renewed_after(1.1)
    assert [renewed_after(1.1), renewed_after(1.1)] == [False, True]
    assert renewed_after(agent._LASTING_S + 1)
    assert renewed_after(1.1)


@pytest.mark.parametrize(("source", "target"), [(0, 8), (8, 0), (0, 8 * TENSORS)])
def test_a_block_that_does_not_exist_is_refused(
    pair: tuple[Engine, Engine], source: int, target: int
) -> None:
    one, other = pair
    introduce(one, other)
    with pytest.raises(BatonError) as caught:
        one.agent.write(other.name, Blocks([source], [target], 0, 1), b"")
    assert caught.value.reason is Reason.TRANSFER_FAILED


def test_a_write_of_some_layers_leaves_the_others_alone(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    one.number()
    introduce(one, other)
    handle = one.agent.write(other.name, Blocks([1, 2], [6, 0], 1, 2), b"two layers")
    assert until(lambda: ended(one, handle), one, other)
    assert until(lambda: other.heard, one, other)
    assert other.sums.of([6, 0], 1, 2) == one.sums.of([1, 2], 1, 2)
    for layer in (0, 3):
        assert other.words(6, layer, 1) == other.words(0, layer, 1) == {2}
    assert all(other.words(block) == {2} for block in (1, 2, 3, 4, 5, 7))
    one.agent.release(handle)


def test_a_layer_may_lie_in_several_places() -> None:
    one, other = Engine(fill=1, layers=2), Engine(fill=2, layers=2)
    one.number()
    introduce(one, other)
    handle = one.agent.write(other.name, Blocks([3], [4], 1, 1), b"one layer")
    assert until(lambda: ended(one, handle), one, other)
    assert other.sums.of([4], 1, 1) == one.sums.of([3], 1, 1)
    assert [bool((t[4] == 2).all()) for t in other.tensors] == [True, True, False, False]
    one.agent.release(handle)
    one.agent.close()
    other.agent.close()


def test_an_engine_with_other_layers_is_refused(pair: tuple[Engine, Engine]) -> None:
    halves = Engine(fill=3, layers=2)
    with pytest.raises(BatonError, match="layers is 2 there and 4 here") as caught:
        pair[0].agent.connect(halves.agent.endpoint())
    assert caught.value.reason is Reason.CONFIG_MISMATCH
    halves.agent.close()


def test_known_peers_are_named_until_forgotten(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    assert one.agent.peers == set()
    introduce(one, other)
    assert one.agent.peers == {other.name}
    one.agent.forget(other.name)
    assert one.agent.peers == set()


def test_a_declared_death_is_believed(pair: tuple[Engine, Engine]) -> None:
    one, other = pair
    introduce(one, other)
    assert [one.agent.dead([other.name]) for _ in range(5)] == [[]] * 5
    one.agent.declare_dead([other.name])
    assert [news for _ in range(5) for news in one.agent.dead([])] == [other.name]


def test_another_process_is_written_to(child: Child) -> None:
    one = Engine(fill=1)
    assert one.agent.connect(child.endpoint)
    handle = one.agent.write(child.endpoint.agent, whole([0], [1]), b"in place")
    assert until(lambda: ended(one, handle), one)
    assert one.agent.state(handle) is WriteState.DONE
    one.agent.release(handle)
    assert one.agent.dead([child.endpoint.agent]) == []
    one.agent.close()


@pytest.mark.parametrize("child", [True, False], indirect=True, ids=["polling", "silent"])
def test_a_write_to_a_dead_process_never_raises(child: Child) -> None:
    one = Engine(fill=1)
    assert one.agent.connect(child.endpoint)
    peer = child.endpoint.agent
    first = one.agent.write(peer, whole([0, 1], [0, 1]), b"before")
    child.kill()
    handles = [first, *_written(one, peer)]
    for _ in range(300):
        for handle in handles:
            assert isinstance(one.agent.state(handle), WriteState)
        one.poll()
        one.agent.tell(peer, b"are you there?")
        time.sleep(0.001)
    assert [news for _ in range(5) for news in one.agent.dead([peer])] == [peer]
    one.agent.forget(peer)
    for handle in handles:
        assert isinstance(one.agent.state(handle), WriteState)
        one.agent.release(handle)
    one.agent.close()


def test_a_process_that_is_dead_already_may_be_connected_to(child: Child) -> None:
    one = Engine(fill=1)
    child.kill()
    with suppress(BatonError):
        one.agent.connect(child.endpoint)
    one.agent.tell(child.endpoint.agent, b"are you there?")
    for handle in _written(one, child.endpoint.agent):
        until(lambda h=handle: ended(one, h), one, seconds=0.3)
    one.agent.close()


def _written(one: Engine, peer: str) -> list:
    """A write, if it can be posted at all."""
    try:
        return [one.agent.write(peer, whole([2], [2]), b"after")]
    except BatonError:
        return []
