"""A conversation remembers its whole turns and nothing else."""

from __future__ import annotations

import pytest
from baton_client import BatonError, Client, ServerError
from baton_client.testing import FakeBaton


def contents(fake: FakeBaton) -> list[str]:
    """What the last request said, message by message."""
    return [message.content for message in fake.requests[-1].prompt.conversation.messages]


def test_each_turn_sends_what_was_said_before(fake: FakeBaton, client: Client) -> None:
    fake.answer("Goethe")
    fake.answer("1808")
    with client.session(system="Be brief.") as chat:
        assert chat.send("Who wrote Faust?").text == "Goethe"
        assert chat.send("When?").text == "1808"
    assert contents(fake) == ["Be brief.", "Who wrote Faust?", "Goethe", "When?"]
    assert [m["role"] for m in chat.messages] == ["system", *["user", "assistant"] * 2]
    assert chat.messages[-1] == {"role": "assistant", "content": "1808"}


def test_streamed_turns_are_remembered_too(fake: FakeBaton, client: Client) -> None:
    chat = client.session()
    with chat.stream("a b") as stream:
        assert [str(piece) for piece in stream] == ["a", " b"]
    chat.send("c")
    assert contents(fake) == ["a b", "a b", "c"]


def test_a_turn_that_is_not_whole_is_not_remembered(fake: FakeBaton, client: Client) -> None:
    chat = client.session()
    fake.answer("a", error=ServerError("broke"))
    with pytest.raises(BatonError):
        chat.send("one")
    with chat.stream("two x") as stream:
        next(stream)
    assert chat.messages == []
    chat.send("three")
    assert contents(fake) == ["three"]


def test_options_hold_for_all_turns_and_a_turns_own_come_first(
    fake: FakeBaton, client: Client
) -> None:
    chat = client.session(max_tokens=5, temperature=0.5)
    chat.send("a", temperature=0.25)
    chat.send("b")
    sampling = [request.sampling for request in fake.requests]
    assert [(s.max_tokens, s.temperature) for s in sampling] == [(5, 0.25), (5, 0.5)]


def test_a_conversation_can_be_taken_up_again(fake: FakeBaton, client: Client) -> None:
    first = client.session(system="s")
    first.send("a")
    client.session(messages=first.messages).send("b")
    assert contents(fake) == ["s", "a", "a", "b"]


def test_its_requests_share_a_name(fake: FakeBaton, client: Client) -> None:
    chat = client.session()
    chat.send("a")
    chat.send("b")
    names = [request.request_id for request in fake.requests]
    assert len(set(names)) == 2
    assert all(name.startswith(f"{chat.id}.") for name in names)
