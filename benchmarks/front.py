"""What the router costs next to vLLM's own API server, with the same engine settings.

usage: python -m benchmarks.front [--quick] [--json FILE]
One worker behind the router and no disaggregation, so that only the path differs. Both servers run
at once and take turns: single requests for the added TTFT, 32 streams for the CPU time of the
router process (of vLLM's API server process) per streamed token. The last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp

from baton.settings import Settings
from benchmarks import nodes
from benchmarks.cpu_time import cpu_s
from benchmarks.load import stream, together
from benchmarks.outputs import command, tell
from deploy.model import DEMO_NAME

STREAMS = 32
PROMPT = "def parse_header(line):\n    "


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and the process whose CPU time counts."""

    name: str
    url: str
    pid: int

    def cpu_s(self) -> float:
        return cpu_s(self.pid)


@dataclass(slots=True)
class Seen:
    """Measurements of one server."""

    ttft_ms: list[float] = field(default_factory=list)
    cpu_us_per_token: list[float] = field(default_factory=list)
    ttft_loaded_ms: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int
    probes: int
    tokens: int


QUICK = Size(rounds=3, probes=12, tokens=48)
FULL = Size(rounds=12, probes=40, tokens=128)


def _body(tokens: int, salt: str) -> dict[str, object]:
    return {
        "model": DEMO_NAME,
        "prompt": f"# {salt}\n{PROMPT}",
        "max_tokens": tokens,
        "min_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0.0,
    }


async def _probe(session: aiohttp.ClientSession, server: Server, seen: Seen, salt: str) -> None:
    times = await stream(session, server.url, _body(1, salt), 1)
    seen.ttft_ms.append(times.ttft_s * 1e3)


async def _load(
    session: aiohttp.ClientSession, server: Server, seen: Seen, tokens: int, salt: str
) -> None:
    bodies = [_body(tokens, f"{salt} {i}") for i in range(STREAMS)]
    cpu_s, started = server.cpu_s(), time.perf_counter()
    done = await together(session, server.url, bodies, tokens)
    wall_s = time.perf_counter() - started
    seen.cpu_us_per_token.append((server.cpu_s() - cpu_s) / (STREAMS * tokens) * 1e6)
    seen.ttft_loaded_ms.append(statistics.median(t.ttft_s for t in done) * 1e3)
    seen.tokens_per_s.append(STREAMS * tokens / wall_s)


async def measure(servers: list[Server], size: Size) -> dict[str, Seen]:
    """Take turns, the order alternating, so that drifts of the machine hit both alike."""
    seen = {server.name: Seen() for server in servers}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for server in servers:  # warm-up: imports and first-use compilation
            await _load(session, server, Seen(), 8, "warm-up")
        for turn in range(size.rounds):
            order = servers if turn % 2 == 0 else servers[::-1]
            for i in range(size.probes):
                for server in order:
                    await _probe(session, server, seen[server.name], f"{turn} {i}")
            for server in order:
                await _load(session, server, seen[server.name], size.tokens, f"load {turn}")
            print(f"round {turn + 1} of {size.rounds} done", flush=True)
    return seen


def result(seen: dict[str, Seen]) -> dict[str, float]:
    """The figures: medians, and the median of paired differences for the added TTFT."""
    baton, vllm = seen["baton"], seen["vllm"]
    added = [ours - theirs for ours, theirs in zip(baton.ttft_ms, vllm.ttft_ms, strict=True)]
    figures = {
        "added_ttft_ms_p50": statistics.median(added),
        "cpu_us_per_token": statistics.median(baton.cpu_us_per_token),
        "cpu_us_per_token_vllm": statistics.median(vllm.cpu_us_per_token),
        "cpu_ratio": statistics.median(
            a / b for a, b in zip(baton.cpu_us_per_token, vllm.cpu_us_per_token, strict=True)
        ),
        "ttft_ms_p50": statistics.median(baton.ttft_ms),
        "ttft_ms_p50_vllm": statistics.median(vllm.ttft_ms),
        "ttft_loaded_ms_p50": statistics.median(baton.ttft_loaded_ms),
        "ttft_loaded_ms_p50_vllm": statistics.median(vllm.ttft_loaded_ms),
        "tokens_per_s": statistics.median(baton.tokens_per_s),
        "tokens_per_s_vllm": statistics.median(vllm.tokens_per_s),
    }
    return {name: round(value, 3) for name, value in figures.items()} | {"streams": STREAMS}


@contextlib.contextmanager
def _vllm_server(settings: dict[str, object]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = _free_port()
    command = [sys.executable, "-m", "benchmarks.vllm_server", str(port), json.dumps(settings)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(8)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _await_health(url: str, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    give_up = time.monotonic() + timeout_s
    port = int(url.rpartition(":")[2])
    while time.monotonic() < give_up:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM's server ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise RuntimeError(f"vLLM's server was not up after {timeout_s:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compared(size: Size) -> dict[str, float]:
    """Both servers from start to end; the figures."""
    chosen: dict[str, object] = {
        "router": {"port": 0, "disaggregate": "never"},
        "admission": {"shed_at": 0.0},
    }
    print("starting one worker with the router, and vLLM's own server", flush=True)
    started = time.monotonic()
    with (
        _vllm_server(chosen) as (url, process),
        nodes.running(Settings.model_validate(chosen), prefill=0, decode=1) as baton,
    ):
        _await_health(url, process, 120)
        print(f"both are up after {time.monotonic() - started:.1f} s", flush=True)
        servers = [Server("baton", baton.url, baton.router_pid), Server("vllm", url, process.pid)]
        return result(asyncio.run(measure(servers, size)))


def main(argv: list[str] | None = None) -> int:
    args = command(__doc__, "a short run: under a minute").parse_args(argv)
    tell(compared(QUICK if args.quick else FULL), args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
