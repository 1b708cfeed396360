"""One plain vLLM engine that answers the same prompts, in a process that ends before others."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from baton.settings import Settings
from benchmarks.oracle import Answer
from deploy.model import DEMO_MODEL
from engine.environment import engine_environment

ANSWER_S = 150.0
SETTINGS: dict[str, Any] = {
    "model": {"dtype": "float32", "enforce_eager": True, "served_name": "demo"},
    "engine": {"block_size_tokens": 128, "prefix_caching": True, "kv_cache_gib": 0.75},
}
"""What both sides of a comparison have in common."""


@dataclass(frozen=True)
class Question:
    """One greedy request."""

    prompt: tuple[int, ...]
    max_tokens: int


def answers(questions: Sequence[Question]) -> list[Answer]:
    """Ask a fresh engine."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, questions), name="reference")
    process.start()
    theirs.close()
    try:
        assert ours.poll(ANSWER_S), f"no reference answers in {ANSWER_S} s"
        found: list[Answer] = ours.recv()
        process.join(20)
    finally:
        process.kill()
    return found


def _answer(control: Connection, questions: Sequence[Question]) -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))
    os.environ.update(engine_environment("cpu", len(cores), cores, "127.0.0.1"))
    # In this very process: nothing to tear down but itself.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import vllm

    from engine.spec import EngineSpec, engine_args

    settings = Settings.model_validate(SETTINGS)
    args = engine_args(EngineSpec(DEMO_MODEL, "demo", "cpu", "float32", settings, {}))
    del args["distributed_executor_backend"]
    llm = vllm.LLM(**args)
    outputs = llm.generate(
        [{"prompt_token_ids": list(q.prompt)} for q in questions],
        [_greedy(vllm, q.max_tokens) for q in questions],
        use_tqdm=False,
    )
    control.send([_to_answer(output.outputs[0]) for output in outputs])


def _greedy(vllm: Any, max_tokens: int) -> Any:
    return vllm.SamplingParams(
        temperature=0.0, max_tokens=max_tokens, ignore_eos=True, logprobs=2, detokenize=False
    )


def _to_answer(completion: Any) -> Answer:
    gaps = []
    for choices in completion.logprobs:
        best, second, *_ = sorted((c.logprob for c in choices.values()), reverse=True)
        gaps.append(best - second)
    return Answer(tuple(completion.token_ids), tuple(gaps))
