"""Why a request was refused or failed, and why a start-up failed.

One table, `RULES`, maps each reason to its HTTP status, gRPC status and whether a second attempt
can help; no other place decides a status. Errors cross processes as plain dictionaries of strings
(`to_wire`, `from_wire`), never as pickled tracebacks. gRPC is named by strings, because this room
may not import it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Self, TypeVar

_Member = TypeVar("_Member", bound=StrEnum)


class Reason(StrEnum):
    """Why a request did not end well. The value is the `code` that clients see."""

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED = "unsupported"
    PROMPT_TOO_LONG = "prompt_too_long"
    BODY_TOO_LARGE = "body_too_large"
    MODEL_NOT_FOUND = "model_not_found"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    ROUTE_BLOCKED = "route_blocked"
    DUPLICATE_ID = "duplicate_id"
    REQUEST_UNKNOWN = "request_unknown"
    QUEUE_FULL = "queue_full"
    TENANT_LIMIT = "tenant_limit"
    WORKER_FULL = "worker_full"
    NO_WORKER = "no_worker"
    DRAINING = "draining"
    STARTING = "starting"
    CONFIG_MISMATCH = "config_mismatch"
    WORKER_LOST = "worker_lost"
    TRANSFER_FAILED = "transfer_failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    ENGINE_FAILED = "engine_failed"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one reason looks from outside.

    `http_status` is the HTTP status, `grpc_status` the name of a `grpc.StatusCode` member.
    `openai_type` is the `type` of the OpenAI error object. `retryable` means that the same
    request, unchanged, may succeed elsewhere or later.
    """

    http_status: int
    grpc_status: str
    openai_type: str
    retryable: bool = field(default=False, kw_only=True)


_CALLER = "invalid_request_error"
_RATE = "rate_limit_error"
_SERVER = "server_error"

# 503 promises that nothing ran: a caller may simply ask again. WORKER_LOST and TRANSFER_FAILED are
# 502, because the request had been accepted and part of it, perhaps part of the answer, existed.
# 499 is the established status for a caller that left; nobody is there to read it but the log.
RULES: Mapping[Reason, Rule] = MappingProxyType(
    {
        Reason.INVALID_REQUEST: Rule(400, "INVALID_ARGUMENT", _CALLER),
        Reason.UNSUPPORTED: Rule(400, "UNIMPLEMENTED", _CALLER),
        Reason.PROMPT_TOO_LONG: Rule(400, "INVALID_ARGUMENT", _CALLER),
        Reason.BODY_TOO_LARGE: Rule(413, "RESOURCE_EXHAUSTED", _CALLER),
        Reason.MODEL_NOT_FOUND: Rule(404, "NOT_FOUND", _CALLER),
        Reason.UNAUTHENTICATED: Rule(401, "UNAUTHENTICATED", "authentication_error"),
        Reason.PERMISSION_DENIED: Rule(403, "PERMISSION_DENIED", "permission_error"),
        Reason.ROUTE_BLOCKED: Rule(403, "PERMISSION_DENIED", "permission_error"),
        Reason.DUPLICATE_ID: Rule(409, "ALREADY_EXISTS", _CALLER),
        Reason.REQUEST_UNKNOWN: Rule(404, "NOT_FOUND", _CALLER),
        Reason.QUEUE_FULL: Rule(429, "RESOURCE_EXHAUSTED", _RATE, retryable=True),
        Reason.TENANT_LIMIT: Rule(429, "RESOURCE_EXHAUSTED", _RATE, retryable=True),
        Reason.WORKER_FULL: Rule(429, "RESOURCE_EXHAUSTED", _RATE, retryable=True),
        Reason.NO_WORKER: Rule(503, "UNAVAILABLE", _SERVER, retryable=True),
        Reason.DRAINING: Rule(503, "UNAVAILABLE", _SERVER, retryable=True),
        Reason.STARTING: Rule(503, "UNAVAILABLE", _SERVER, retryable=True),
        Reason.CONFIG_MISMATCH: Rule(503, "FAILED_PRECONDITION", _SERVER, retryable=True),
        Reason.WORKER_LOST: Rule(502, "UNAVAILABLE", _SERVER, retryable=True),
        Reason.TRANSFER_FAILED: Rule(502, "UNAVAILABLE", _SERVER, retryable=True),
        Reason.DEADLINE_EXCEEDED: Rule(504, "DEADLINE_EXCEEDED", "timeout_error"),
        Reason.CANCELLED: Rule(499, "CANCELLED", "cancelled_error"),
        Reason.ENGINE_FAILED: Rule(500, "INTERNAL", _SERVER),
        Reason.INTERNAL: Rule(500, "INTERNAL", _SERVER),
    }
)


class BatonError(Exception):
    """A request that was refused or failed, with its reason.

    `message` is shown to the caller. `retry_after_s` (seconds, None = no advice) becomes the
    Retry-After header. `param` names the request field at fault, None where there is none.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retry_after_s: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        self.param = param

    @property
    def rule(self) -> Rule:
        """The table row of this error's reason."""
        return RULES[self.reason]

    def to_wire(self) -> dict[str, str]:
        """The error as strings, for another process. What is None is left out."""
        wire = {"reason": self.reason.value, "message": self.message}
        if self.retry_after_s is not None:
            wire["retry_after_s"] = repr(self.retry_after_s)
        if self.param is not None:
            wire["param"] = self.param
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, str]) -> Self:
        """The error another process sent. Never raises: what cannot be read becomes INTERNAL."""
        return cls(
            _member(Reason, wire.get("reason", ""), Reason.INTERNAL),
            wire.get("message", "no message"),
            retry_after_s=seconds_from(wire.get("retry_after_s")),
            param=wire.get("param"),
        )

    def to_openai(self) -> dict[str, dict[str, str | int | None]]:
        """The body of an HTTP answer, in the shape of OpenAI's error object."""
        return {
            "error": {
                "message": self.message,
                "type": self.rule.openai_type,
                "param": self.param,
                "code": self.reason.value,
            }
        }

    def __reduce__(self) -> tuple[Callable[[Mapping[str, str]], Self], tuple[dict[str, str]]]:
        # Actor calls pickle exceptions, and the default would lose the keyword arguments.
        return type(self).from_wire, (self.to_wire(),)


class StartupFault(StrEnum):
    """Why a part of the cluster did not start."""

    MODEL_MISSING = "model_missing"
    MODEL_INVALID = "model_invalid"
    MEMORY_TOO_SMALL = "memory_too_small"
    PORT_TAKEN = "port_taken"
    VLLM_UNSUPPORTED = "vllm_unsupported"
    DEVICE_WRONG = "device_wrong"
    START_TIMEOUT = "start_timeout"
    SETTINGS_INVALID = "settings_invalid"
    RAY_UNAVAILABLE = "ray_unavailable"
    ENGINE_CRASHED = "engine_crashed"
    FRONT_END_MISSING = "front_end_missing"


HINTS: Mapping[StartupFault, str] = MappingProxyType(
    {
        StartupFault.MODEL_MISSING: "Set model.path (or --model) to a folder that exists on every "
        "machine that runs a worker.",
        StartupFault.MODEL_INVALID: "The folder needs config.json, tokenizer files and weights in "
        "the Hugging Face layout.",
        StartupFault.MEMORY_TOO_SMALL: "Lower engine.kv_cache_gib, engine.gpu_memory_utilization, "
        "model.max_model_len_tokens or the number of workers.",
        StartupFault.PORT_TAKEN: "Stop what listens there, choose another router.port, or set it "
        "to 0 for any free port.",
        StartupFault.VLLM_UNSUPPORTED: "Install the vLLM version that this release of Baton is "
        "pinned to.",
        StartupFault.DEVICE_WRONG: "Set engine.device to 'auto', or to the device that this "
        "machine and this vLLM build have.",
        StartupFault.START_TIMEOUT: "Read the worker's log; if the model is only slow to load, "
        "raise engine.start_timeout_s.",
        StartupFault.SETTINGS_INVALID: "Run `baton config check`; `baton config show` lists every "
        "setting with its meaning.",
        StartupFault.RAY_UNAVAILABLE: "Check cluster.ray_address, or set it to 'local' to start a "
        "Ray of Baton's own.",
        StartupFault.ENGINE_CRASHED: "Read the end of the worker's log; it holds the engine's own "
        "error.",
        StartupFault.FRONT_END_MISSING: "Run `make rust-front`, which takes it out of vLLM's "
        "official wheel, or set router.front to in-process.",
    }
)


class StartupError(Exception):
    """Something that keeps Baton from starting, and what its user can do about it.

    `details` are further lines, one problem each. `hint` defaults to the fault's line in `HINTS`.
    """

    def __init__(
        self,
        fault: StartupFault,
        message: str,
        *,
        details: tuple[str, ...] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.details = details
        self.hint = HINTS[fault] if hint is None else hint

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  - {d}" for d in self.details), f"Hint: {self.hint}"])

    def to_wire(self) -> dict[str, str]:
        """The error as strings, for another process. Details are joined by line breaks."""
        return {
            "fault": self.fault.value,
            "message": self.message,
            "details": "\n".join(self.details),
            "hint": self.hint,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, str]) -> Self:
        """The error another process sent. Never raises; an unknown fault is an engine crash."""
        return cls(
            _member(StartupFault, wire.get("fault", ""), StartupFault.ENGINE_CRASHED),
            wire.get("message", "no message"),
            details=tuple(wire.get("details", "").splitlines()),
            hint=wire.get("hint"),
        )

    def __reduce__(self) -> tuple[Callable[[Mapping[str, str]], Self], tuple[dict[str, str]]]:
        return type(self).from_wire, (self.to_wire(),)


def _member(enum: type[_Member], value: str, otherwise: _Member) -> _Member:
    return enum(value) if value in set(enum) else otherwise


def seconds_from(text: str | None) -> float | None:
    """Of a header or a field; None for what is no time to wait."""
    try:
        seconds = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
