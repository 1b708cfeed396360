"""What is special to a kind of leg: how it comes in, and what becomes of its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from baton.messages import Ticket
from baton.wire import worker_pb2 as wire
from engine.ports import Engine, LegEnd, Output, Request


@dataclass(frozen=True, slots=True)
class Intake:
    """One leg as a router submitted it."""

    leg_id: str
    payload: tuple[bytes, ...]
    prompt_tokens: int
    ticket: Ticket | None
    resumed: tuple[int, ...] = ()
    """Tokens of the answer that the client has already; part of `prompt_tokens`."""


def intake_of(submit: wire.Submit) -> Intake:
    """What came over the wire, as roles take it."""
    ticket = None
    if submit.HasField("ticket"):
        t = submit.ticket
        ticket = Ticket(t.ticket_id, t.epoch, t.deadline_s, t.handed, t.peer)
    return Intake(
        submit.leg_id,
        tuple(submit.request),
        submit.prompt_tokens,
        ticket,
        tuple(submit.resumed),
    )


@dataclass(frozen=True, slots=True)
class Handed:
    """A prefill leg is complete; its output is not for the client."""

    handed: bytes
    cached_tokens: int


class Role(Protocol):
    """One kind of leg on an engine."""

    delivers_tokens: bool
    """Whether outputs of these legs go to the router as they are."""
    computes_prompt: bool
    """Whether these legs wait for their prompt to be computed on this engine."""

    def request(self, engine: Engine, intake: Intake) -> Request:
        """The engine's request for this leg. Raises BatonError to refuse it."""

    def handed(self, engine: Engine, output: Output) -> Handed:
        """What a leg that ended well hands over. Only asked where no tokens are delivered.

        Raises BatonError when there is nothing to hand over.
        """

    def failure(self, end: LegEnd, had_output: bool) -> tuple[str, str]:
        """(reason name, message) of a leg that the engine ended badly."""
