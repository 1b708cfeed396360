"""Several hosts on one machine: what becomes of requests while one is cut off, and afterwards.

usage: python -m benchmarks.hosts [--quick | --short] [--json FILE]
Ray's head, the router and a decode worker are on the first host, prefill on the second, another
decode worker on the third; KV goes over TCP. Clients ask without a pause. A host is cut off without
a word: for less time than anybody takes it for dead, so that it goes on with the same processes, or
for longer than Ray waits for it, so that it has to join again. Each answer is compared with that of
a single engine. --quick: two hosts, prefill off for 8 and for 30 s; --short: for 8 s alone.
The last line is one JSON object; the exit status is 0 only if `ok` is true. Needs root.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from baton.tasks import Tasks
from benchmarks.faults_clients import Case, Clients, Told
from benchmarks.faults_result import Result, say
from benchmarks.hosts_cluster import Cluster, cluster, until
from benchmarks.hosts_net import hosts, inside, run_inside, why_not
from benchmarks.hosts_result import Cut, Figures, Plan, plan_of
from benchmarks.leftovers import mark
from benchmarks.oracle import Answer
from benchmarks.outputs import command, tell
from benchmarks.reference import Question, answers
from deploy.model import DEMO_MODEL, DEMO_NAME

USERS = 3
TOKENS = 32
_LENGTHS = (200, 450, 700, 950)
_WORDS = ("import os", "class Reader:", "def read(self, path):", "return [", "line", "for line in")
_CALM_S = 4.0
_NOTICED_S = 2.0
"""Routers have missed a host, and what it had goes on elsewhere."""
_REPORTED_S = 1.0
_BACK_S = 120.0
_KV = "baton_kv_transfer_bytes_total"


def questions() -> list[Question]:
    """Prompts that are worth a handover, of words of some code in orders of their own."""
    tokenizer = Tokenizer.from_file(str(DEMO_MODEL / "tokenizer.json"))
    found = []
    for seed, length in enumerate(_LENGTHS):
        chance = random.Random(seed)
        text = " ".join(chance.choice(_WORDS) for _ in range(2 * length))
        found.append(Question(tuple(tokenizer.encode(text).ids[:length]), TOKENS))
    return found


class Run:
    """One cluster, its clients, one cut after the other."""

    def __init__(self, running: Cluster, plan: Plan, result: Result, known: list[Answer]) -> None:
        self._running = running
        self._plan = plan
        self._result = result
        self._cases = [_case(q, a) for q, a in zip(questions(), known, strict=True)]
        self._clients = Clients(running.url, result)
        self._numbers = count()
        self._over = False
        self.figures = Figures()

    async def run(self) -> None:
        """All cuts, under load."""
        # Workers report what they wrote to each other a moment later.
        await asyncio.sleep(_REPORTED_S)
        kv_bytes, wire_bytes = self._moved()
        async with Tasks("hosts") as tasks:
            users = [tasks.spawn(self._user(n), f"user {n}") for n in range(USERS)]
            await asyncio.sleep(_CALM_S)
            await self._handed_over()
            self.figures.served_before = self._result.finished
            # Before anything restarts: counters go with their processes.
            now = self._moved()
            self.figures.kv_bytes, self.figures.wire_bytes = now[0] - kv_bytes, now[1] - wire_bytes
            for cut in self._plan.cuts:
                await self._cut(cut)
                await asyncio.sleep(_CALM_S)
            self._over = True
            await asyncio.gather(*users)
        await self._clients.aclose()

    async def _user(self, number: int) -> None:
        while not self._over:
            case = self._cases[number % len(self._cases)]
            # A salt of its own: nobody has its KV yet, so that all of it is handed over.
            body = {**case.body, "cache_salt": f"own {next(self._numbers)}"}
            await self._clients.ask(Case(body, case.answer), Told())
            number += 1

    async def _cut(self, cut: Cut) -> None:
        running, host = self._running, self._running.hosts[cut.host]
        worker = await asyncio.to_thread(running.worker_at, host)
        before = await asyncio.to_thread(running.members)
        cut_at = time.monotonic()
        host.cut()
        await asyncio.sleep(_NOTICED_S)
        finished = self._result.finished
        watching = asyncio.to_thread(until, lambda: not running.is_ready(worker), cut.lasts_s, "")
        watch = asyncio.ensure_future(watching)
        await asyncio.sleep(cut.lasts_s - _NOTICED_S)
        cut.served_during = self._result.finished - finished
        host.mend()
        mended_at = time.monotonic()
        cut.given_up_s = await _seconds_of(watch)
        cut.given_up_s = None if cut.given_up_s is None else _NOTICED_S + cut.given_up_s
        await self._until_whole()
        await self._handed_over()
        cut.recovered_s = time.monotonic() - mended_at
        after = await asyncio.to_thread(running.members)
        cut.restarted = sorted(w for w in after if after[w]["restarts"] != before[w]["restarts"])
        self.figures.cuts.append(cut)
        say(f"{cut}; {mended_at - cut_at:.1f} s")

    async def _until_whole(self) -> None:
        running = self._running
        await asyncio.to_thread(until, running.is_whole, _BACK_S, "all workers are back")

    async def _handed_over(self) -> None:
        """Until KV is written once more."""
        before = await asyncio.to_thread(self._running.metric, _KV)

        def written() -> bool:
            now = self._running.metric(_KV)
            return any(now[worker] > before.get(worker, 0) for worker in now)

        await asyncio.to_thread(until, written, _BACK_S, "KV is handed over")

    def _moved(self) -> tuple[int, int]:
        """Bytes of KV that prefill has written, and all that has left its host."""
        written = sum(self._running.metric(_KV).values())
        return round(written), self._running.hosts["prefill"].sent_bytes()


async def _seconds_of(watch: asyncio.Future[float]) -> float | None:
    try:
        return await watch
    except TimeoutError:
        return None


def _case(question: Question, answer: Answer) -> Case:
    body = {
        "model": DEMO_NAME,
        "prompt": list(question.prompt),
        "max_tokens": question.max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    return Case(body, answer)


def measure(plan: Plan) -> dict[str, Any]:
    """The whole run, in a namespace of its own."""
    began, result = time.monotonic(), Result(quick=True)
    with (
        tempfile.TemporaryDirectory(prefix="baton-h-") as folder,
        hosts(list(plan.roles), Path(folder)) as made,
    ):
        say("asking a single engine")
        known = answers(questions())
        say(f"starting Ray on {len(made)} hosts, and Baton")
        with cluster(made, plan.roles, plan.patience) as running:
            say(f"ready after {running.served.start_s:.1f} s")
            run = Run(running, plan, result, known)
            asyncio.run(run.run())
    run.figures.start_s = running.served.start_s
    run.figures.exit_status = running.served.process.returncode
    return run.figures.line(result, time.monotonic() - began)


def main(argv: list[str] | None = None) -> int:
    parser = command(__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="two hosts, two cuts")
    size.add_argument("--short", action="store_true", help="two hosts, one short cut")
    args = parser.parse_args(argv)
    if inside():
        tell(measure(plan_of(quick=args.quick, short=args.short)))
        return 0
    if (missing := why_not()) is not None:
        parser.exit(2, f"no hosts can be made here: {missing}\n")
    line = _outside(["--quick"] * args.quick + ["--short"] * args.short)
    tell(line, args.json)
    return 0 if line["ok"] else 1


def _outside(argv: list[str]) -> dict[str, Any]:
    """Runs it in its namespace, and looks at what it left."""
    run_mark = mark()
    done = run_inside("benchmarks.hosts", argv, run_mark.environment)
    line: dict[str, Any] = {"ok": False, "exit_status": done.returncode}
    if done.returncode == 0:
        line = json.loads(done.stdout.splitlines()[-1])
    left = run_mark.left()
    return {**line, "left": left, "ok": line["ok"] and not left}


if __name__ == "__main__":
    raise SystemExit(main())
