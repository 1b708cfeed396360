"""`baton bench`: looks whether the endpoint answers, sends the load, and tells what came."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from dataclasses import dataclass, replace

import uvloop

from baton.errors import StartupError, StartupFault
from baton.settings.router import SloSettings
from deploy.bench.client import Target, shown
from deploy.bench.endpoint import choose, connections, models, session, tried
from deploy.bench.figures import Figures, Slo, figures, parse_slo
from deploy.bench.load import fitted, mixed, read_trace, shaped
from deploy.bench.prompts import Prompts
from deploy.bench.report import html, lines
from deploy.bench.runner import Bounds, Run, Runner, Tally
from deploy.option_types import writable
from deploy.progress import Watched, on_interrupt, watched
from deploy.reach import Reach
from simulator.traces.request import Trace
from simulator.traces.shape import first
from simulator.traces.steady import REQUESTS_MAX

RATE, DURATION_S = 1.0, 30.0
_WARMUP_SHARE, _WARMUP_MAX_S = 0.1, 10.0
_END_S = 5.0
_WORDS_SHARE = 0.98
"""Of the context, for prompts whose length is only nearly as asked."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run, decided."""

    trace: Trace
    load_s: float
    warmup_s: float
    target: Target
    slo: Slo
    salt: str
    words: bool
    in_flight: int
    context_tokens: int | None = None
    """Of the model; None = the endpoint does not say."""
    shortened: int = 0

    def facts(self) -> dict[str, object]:
        """What a report says of it."""
        return {
            "url": shown(self.target.url),
            "model": self.target.model,
            "api": self.target.path,
            "load": self.trace.name,
            "planned": len(self.trace.requests),
            "load_s": round(self.load_s, 3),
            "warmup_s": round(self.warmup_s, 3),
            "shortened": self.shortened,
            "in_flight_max": self.in_flight,
            "timeout_s": self.target.timeout_s,
            "slo": self.slo.as_json(),
            "salt": self.salt,
        }


def run(reach: Reach, slo: SloSettings, args: argparse.Namespace) -> tuple[int, str]:
    """(exit code, what to print). Raises BatonError and StartupError for what cannot begin."""
    writable(args.html)
    plan = decided(args, reach, slo)
    with watched("bench") as progress:
        plan, done = uvloop.run(_run(reach, plan, progress))
    found = figures(done, plan.slo, plan.warmup_s, plan.load_s)
    if args.html is not None:
        args.html.write_text(html(found, plan.slo, done, plan.facts()), encoding="utf-8")
    return int(not found.completed), _text(plan, found, done, args)


def decided(args: argparse.Namespace, reach: Reach, slo: SloSettings) -> Plan:
    """The run that the arguments describe, on the endpoint as it is."""
    promised = Slo(slo.ttft_s, slo.tpot_s, None, slo.ttft_s_per_1000_tokens or None)
    promised = promised if args.slo is None else parse_slo(args.slo)
    trace, load_s = load(args)
    model = choose(models(reach), args.served_model, shown(reach.url))
    return Plan(
        trace=trace,
        load_s=load_s,
        warmup_s=warmup(args.warmup, load_s),
        target=Target(reach.url, model.name, args.chat, not args.no_ignore_eos, args.timeout),
        slo=promised,
        salt=args.salt or secrets.token_hex(8),
        words=args.words or args.chat,
        in_flight=connections(args.max_in_flight),
        context_tokens=model.context_tokens,
    )


def fitting(plan: Plan, prompts: Prompts) -> Plan:
    """The plan with no request that the model's context cannot hold."""
    most = plan.context_tokens
    if most is not None and plan.words:
        # Words make about so many tokens.
        most = max(int(most * _WORDS_SHARE), 2)
    trace, shortened = fitted(plan.trace, most, prompts.least_tokens)
    return replace(plan, trace=trace, shortened=shortened)


def load(args: argparse.Namespace) -> tuple[Trace, float]:
    """(the requests, the seconds over which they are due). Raises StartupError."""
    most = min(args.requests or REQUESTS_MAX, REQUESTS_MAX)
    if args.trace is not None:
        seed = None if args.as_recorded else args.seed
        read = read_trace(args.trace, args.format, most, seed)
        whole = shaped(read, args.rate, None)
        # Nothing is due after its end.
        end_s = max((r.arrival_s for r in whole.requests), default=0.0)
        seconds = end_s if args.duration is None else min(args.duration, end_s)
        trace = shaped(whole, None, args.duration)
    else:
        seconds = args.duration or DURATION_S
        drawn = mixed(args.mix, args.rate or RATE, seconds, args.seed)
        trace = first(shaped(drawn, None, seconds), most)
    if not trace.requests:
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            "no request is due in this load",
            hint="Give it more time (--duration) or a higher rate (--rate).",
        )
    if len(trace.requests) == most:
        seconds = trace.requests[-1].arrival_s
    return trace, seconds


def warmup(wanted_s: float | None, load_s: float) -> float:
    """Seconds that are not counted. Raises StartupError where nothing would be left."""
    if wanted_s is None:
        return min(_WARMUP_SHARE * load_s, _WARMUP_MAX_S)
    if wanted_s and wanted_s >= load_s:
        raise StartupError(
            StartupFault.SETTINGS_INVALID,
            f"--warmup {wanted_s:g}: the load takes {load_s:.3g} s, and nothing would be counted",
            hint="Give it a shorter warm-up, or the load more time.",
        )
    return wanted_s


async def _run(reach: Reach, plan: Plan, progress: Watched) -> tuple[Plan, Run]:
    stop = asyncio.Event()
    bounds = Bounds(plan.in_flight, plan.load_s + plan.target.timeout_s + _END_S)
    began = asyncio.get_running_loop().time()

    def watch(tally: Tally) -> None:
        share = (asyncio.get_running_loop().time() - began) / max(plan.load_s, 1e-3)
        progress.at(share, told(tally))

    async with session(reach) as opened:
        prompts = await tried(
            opened,
            plan.target,
            plan.salt,
            words=plan.words,
            context_tokens=plan.context_tokens,
        )
        plan = fitting(plan, prompts)
        # Before there is anything to tell, Ctrl-C simply ends the command.
        on_interrupt(stop.set)
        began = asyncio.get_running_loop().time()
        runner = Runner(opened, plan.target, prompts, bounds, watch)
        return plan, await runner.run(plan.trace, stop)


def told(tally: Tally) -> str:
    """One line of progress."""
    text = f"{tally.sent} of {tally.planned} sent, {tally.in_flight} in flight"
    return f"{text}, {tally.failed} failed" if tally.failed else text


def _text(plan: Plan, found: Figures, done: Run, args: argparse.Namespace) -> str:
    if args.json:
        facts = {**plan.facts(), "interrupted": done.interrupted}
        return json.dumps({**facts, **found.as_json()}) + "\n"
    told = list(lines(found, plan.slo))
    if plan.shortened:
        told.append(f"{plan.shortened} requests were shortened to the model's context")
    if args.html is not None:
        told.append(f"report: {args.html}")
    return "\n".join(told) + "\n"
