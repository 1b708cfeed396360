"""The handoff by vLLM's pulling connector and by Baton's, on the same two engines, in turns.

usage: python -m benchmarks.handoff [--quick] [--json FILE]
Both connectors are loaded into the same engines (vLLM's MultiConnector); each request says which
one carries its KV. Exposed time is from the end of prefill, as the client hears of it, to decode's
first token: transfer, scheduling and one decode step. The model has random weights and 128 KiB of
KV per token. vLLM's connector runs without NIXL's progress thread, as Baton configures it on CPU,
so that its absence is not counted as a gain. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baton.messages import Dispatch, Ticket
from baton.settings import KvTransferSettings
from baton.wire import worker_pb2 as wire
from benchmarks import reference, wide_model
from benchmarks.engines import ClusterOfTwo, Setup
from benchmarks.legs import NUMBERS, PushPair, encoded
from kv_transfer.handoff import Handoff
from kv_transfer.push import BatonPush
from kv_transfer.vllm_nixl import VllmNixlPull

CHUNK_TOKENS = 512
MAX_LEN_TOKENS = 4096


class BothHandoffs:
    """Both connectors in one engine. A ticket that names a peer is Baton's."""

    name = "both"
    dispatch = Dispatch.CONCURRENT

    def __init__(self, settings: KvTransferSettings) -> None:
        self._pull = VllmNixlPull(settings.abort_timeout_s, settings.ucx_tls)
        self._push = BatonPush(settings)

    def environment(self, host: str) -> Mapping[str, str]:
        return {**self._push.environment(host), **self._pull.environment(host)}

    def transfer_config(self, device: str) -> Mapping[str, Any]:
        connectors = [h.transfer_config(device) for h in (self._pull, self._push)]
        return {
            "kv_connector": "MultiConnector",
            "kv_role": "kv_both",
            "kv_load_failure_policy": "fail",
            "kv_connector_extra_config": {"connectors": connectors},
        }

    def prefill_params(self, ticket: Ticket) -> dict[str, Any]:
        return self._of(ticket).prefill_params(ticket)

    def handed(self, engine_params: Mapping[str, Any] | None) -> bytes:
        return self._pull.handed(engine_params) if engine_params else b"pushed"

    def decode_params(self, ticket: Ticket) -> dict[str, Any]:
        return self._of(ticket).decode_params(ticket)

    def _of(self, ticket: Ticket) -> Handoff:
        return self._push if ticket.peer else self._pull


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, in seconds."""

    prefill_s: float
    exposed_s: float


async def _pull(pair: PushPair, prompt: list[int]) -> Seen:
    payload, number = encoded(prompt, 1), next(NUMBERS)
    started = time.perf_counter()
    leg = await pair.submit_prefill(prompt, payload, f"r{number}.0.p")
    handed = (await leg.next(wire.Prefilled)).handed
    prefilled = time.perf_counter()
    decode = await pair.submit_decode(prompt, payload, f"r{number}.0.d", handed)
    await decode.tokens()
    return Seen(prefilled - started, time.perf_counter() - prefilled)


async def _push(pair: PushPair, prompt: list[int]) -> Seen:
    started = time.perf_counter()
    legs = await pair.both(prompt, 1)
    await legs.prefill.next(wire.Prefilled)
    prefilled = time.perf_counter()
    await legs.decode.tokens()
    return Seen(prefilled - started, time.perf_counter() - prefilled)


WAYS = {"vllm_pull": _pull, "baton": _push}


async def measure(cluster: ClusterOfTwo, lengths: list[int], rounds: int) -> dict[str, Any]:
    """Each length and way once per round, in an order that alternates."""
    seen: dict[str, dict[int, list[Seen]]] = {way: defaultdict(list) for way in WAYS}
    async with PushPair(cluster) as pair:
        for connect in WAYS.values():  # the first handoff also connects the engines
            await connect(pair, _prompt(CHUNK_TOKENS, -1))
        for turn in range(rounds):
            for length in lengths:
                for way in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
                    prompt = _prompt(length, next(NUMBERS))
                    seen[way][length].append(await WAYS[way](pair, prompt))
            print(f"round {turn + 1} of {rounds} done", flush=True)
        await pair.until_empty(30)
    return _figures(seen)


def _prompt(length: int, salt: int) -> list[int]:
    """Tokens that no other prompt begins with, so that no cache helps."""
    return [7 + (salt * 7919 + i * i + 31 * i) % 4000 for i in range(length)]


def _figures(seen: dict[str, dict[int, list[Seen]]]) -> dict[str, Any]:
    by_length = {
        str(length): {
            way: {
                "prefill_ms": _ms([s.prefill_s for s in seen[way][length]]),
                "exposed_ms": _ms([s.exposed_s for s in seen[way][length]]),
                "kv_mib": round(length * wide_model.KV_BYTES_PER_TOKEN / 2**20),
            }
            for way in seen
        }
        for length in seen["baton"]
    }
    every = {w: _ms([s.exposed_s for runs in seen[w].values() for s in runs]) for w in seen}
    return {"exposed_ms_p50": every, "by_prompt_tokens": by_length}


def _ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 1)


def run(*, quick: bool) -> dict[str, Any]:
    """The whole benchmark."""
    lengths = [1024, 2048] if quick else [128, 512, 1024, 2048, 3500]
    with tempfile.TemporaryDirectory(prefix="baton-handoff-") as folder:
        path = wide_model.make(Path(folder), MAX_LEN_TOKENS)
        settings = {
            **reference.SETTINGS,
            "model": {**reference.SETTINGS["model"], "path": str(path)},
            "engine": {"kv_cache_gib": 1.0, "max_batched_tokens": CHUNK_TOKENS},
            "log": {"level": "error"},
        }
        transfer = {"connector": "baton", "verify": "off", "abort_timeout_s": 10.0}
        print("starting two engines", flush=True)
        cluster = ClusterOfTwo(Setup(transfer, settings, BothHandoffs))
        try:
            return asyncio.run(measure(cluster, lengths, rounds=3 if quick else 15))
        finally:
            cluster.stop()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run: about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result there")
    args = parser.parse_args(argv)
    line = json.dumps(run(quick=args.quick))
    if args.json is not None:
        args.json.write_text(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
