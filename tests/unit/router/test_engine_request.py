"""What the heart is told of a request that vLLM's server makes."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from router.engine_request import engine_request
from router.exchange import EXCHANGE, Exchange

PARAMS = SimpleNamespace(
    prompt_logprobs=None,
    prompt_logprob_token_ids=None,
    max_tokens=5,
    temperature=0,
    seed=None,
    structured_outputs=None,
)
REQUEST = SimpleNamespace(
    request_id="r", prompt_token_ids=[1, 2], cache_salt=None, sampling_params=PARAMS
)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    one = Exchange(1.0)
    token = EXCHANGE.set(one)
    yield one
    EXCHANGE.reset(token)


def test_siblings_share_an_exchange_and_what_is_asked_after_a_token_has_none(
    exchange: Exchange,
) -> None:
    siblings = [engine_request(REQUEST, (b"x",), None) for _ in range(2)]
    assert [one.exchange for one in siblings] == [exchange, exchange]
    # As a beam search does, once per beam and token.
    exchange.when_written(lambda _at: None)
    assert engine_request(REQUEST, (b"x",), None).exchange is None
