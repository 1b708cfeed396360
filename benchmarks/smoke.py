"""Starts the demo cluster, asks it, stops it, and compares its answers with a single engine's.

usage: python -m benchmarks.smoke [--json FILE]
The last line is one JSON object; the exit status is 0 only if `ok` is true.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.leftovers import mark
from benchmarks.oracle import Answer, score
from benchmarks.outputs import command, tell
from benchmarks.reference import Question, answers
from benchmarks.served import serving
from deploy.model import DEMO_NAME

PROMPTS = (
    "def fibonacci(n):\n",
    "import os\nimport sys\n\nclass ",
    "# read a file line by line\n" * 40 + "def read_lines(path):\n    ",
)
MAX_TOKENS = 24


def _ask(url: str, prompt: str) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """(prompt's tokens, answer's tokens, TTFT in seconds)."""
    body = {
        "model": DEMO_NAME,
        "prompt": prompt,
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
    }
    started, ttft_s = time.monotonic(), 0.0
    prompt_ids: list[int] = []
    tokens: list[int] = []
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            ttft_s = ttft_s or time.monotonic() - started
            choice = json.loads(line.removeprefix("data: "))["choices"][0]
            prompt_ids += choice.get("prompt_token_ids") or []
            tokens += choice.get("token_ids") or []
    return tuple(prompt_ids), tuple(tokens), ttft_s


def run() -> dict[str, Any]:
    """The whole smoke run; its figures."""
    run_mark = mark()
    with tempfile.TemporaryDirectory(prefix="baton-smoke-") as folder:
        print("starting the demo cluster", flush=True)
        # The oracle compares in float32; a CPU with bfloat16 instructions would use those.
        options = ["--set", "model.dtype=float32"]
        with serving(options, Path(folder), run_mark.environment) as served:
            print(f"ready after {served.start_s:.1f} s; asking", flush=True)
            asked = [_ask(served.url, prompt) for prompt in PROMPTS]
        status = served.process.returncode
    left = run_mark.left()
    print("stopped; asking a single engine the same", flush=True)
    reference = answers([Question(prompt, MAX_TOKENS) for prompt, _, _ in asked])
    return _figures(asked, reference, served.start_s, {"exit_status": status, "left": left})


def _figures(
    asked: list[tuple[tuple[int, ...], tuple[int, ...], float]],
    reference: list[Answer],
    start_s: float,
    end: dict[str, Any],
) -> dict[str, Any]:
    compared = score([(r, tokens) for r, (_, tokens, _) in zip(reference, asked, strict=True)])
    return {
        "ok": compared.same and end["exit_status"] == 0 and not end["left"],
        "start_s": round(start_s, 1),
        "ttft_s": round(min(ttft_s for _, _, ttft_s in asked), 3),
        "tokens_equal": compared.same,
        "tokens": compared.tokens,
        **end,
    }


def main(argv: list[str] | None = None) -> int:
    args = command(__doc__).parse_args(argv)
    figures = run()
    tell(figures, args.json)
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
