"""What the heart is told of a request of vLLM's server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from baton.ids import RequestId
from router.caller import CALLER, Caller
from router.exchange import EXCHANGE, Exchange
from router.ports import EngineRequest
from router.tracing import Trace


def engine_request(
    request: Any, buffers: Iterable[Any], trace: Trace | None, caller: Caller | None = None
) -> EngineRequest:
    """`request` is an EngineCoreRequest of vLLM, `buffers` the same encoded.

    `caller` is None where a middleware has remembered who asks.
    """
    exchange = _exchange()
    params, caller = request.sampling_params, caller or CALLER.get()
    scored = params.prompt_logprobs is not None or params.prompt_logprob_token_ids is not None
    return EngineRequest(
        request_id=RequestId(request.request_id),
        payload=tuple(bytes(buffer) for buffer in buffers),
        prompt_tokens=len(request.prompt_token_ids),
        max_tokens=params.max_tokens,
        may_disaggregate=not scored,
        tokens=request.prompt_token_ids,
        cache_salt=request.cache_salt or "",
        deadline_s=caller.timeout_s,
        caller=caller,
        trace=trace,
        resumable=_resumable(params),
        exchange=exchange,
        direct=exchange is not None and exchange.direct,
        sent=() if exchange is None else exchange.sent,
    )


def _exchange() -> Exchange | None:
    """None for what is asked once tokens have come, as a beam search asks for each token."""
    one = EXCHANGE.get()
    return None if one is None or one.answering else one


def _resumable(params: Any) -> bool:
    """Whether an engine that is given the tokens so far would go on as the first one would have.

    A grammar would have to be brought forward, and a seed's generator too; both start anew.
    """
    greedy = params.temperature == 0
    return params.structured_outputs is None and (greedy or params.seed is None)
