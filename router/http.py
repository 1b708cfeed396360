"""vLLM's OpenAI server as the router's: which of its routes are open, and Baton's own pages."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send
from vllm import AsyncEngineArgs
from vllm.config import VllmConfig
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

from baton.errors import BatonError, Reason, StartupError, StartupFault
from baton.settings.model import Settings
from router.access import Access, access_of
from router.caller import CALLER
from router.caller_headers import CallerHeaders, Knock
from router.exchange import Exchanges
from router.explain_header import Explain, ExplainHeader
from router.front import BatonFront, FrontError
from router.http_guard import HttpGuard, error_response
from router.http_handlers import guard_handlers
from router.ports import HeartPort
from router.scrape import answer
from router.tracing import Tracing
from router.ui.board import Board
from router.ui.routes import ui_routes

OPEN_ROUTES = frozenset(
    {
        "/docs",
        "/openapi.json",
        "/version",
        "/tokenize",
        "/detokenize",
        "/v1/models",
        "/v1/completions",
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
    }
)
# Routes of vLLM that its server offers only in some set-ups: blocked in all of them.
MANAGEMENT_ROUTES = (
    "/abort_requests",
    "/checkpoint_prepare",
    "/checkpoint_restore",
    "/collective_rpc",
    "/finish_weight_update",
    "/init_weight_transfer_engine",
    "/is_paused",
    "/is_sleeping",
    "/pause",
    "/reset_encoder_cache",
    "/reset_mm_cache",
    "/reset_prefix_cache",
    "/resume",
    "/server_info",
    "/sleep",
    "/start_profile",
    "/start_weight_update",
    "/stop_profile",
    "/update_weights",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/wake_up",
)
_OWN_ROUTES = frozenset({"/health", "/metrics"})
_MIB = 1024 * 1024
_NOISY = (
    "vllm.entrypoints.openai.completion.serving",
    "vllm.entrypoints.openai.chat_completion.serving",
    "vllm.entrypoints.anthropic.serving",
    "vllm.entrypoints.anthropic.api_router",
)


@dataclass(frozen=True, slots=True)
class Pages:
    """Where Baton's own pages get their contents. None of these may block."""

    ready: Callable[[], None]
    """Raises BatonError while requests cannot be served."""
    knock: Knock
    """Raises BatonError while a request of this caller would be refused."""
    status: Callable[[], Mapping[str, Any]]
    story: Callable[[str, str | None, bool], str | None]
    """By its id, the only tenant who may be told of (None = all), and whether a part won't do."""
    explain: Explain
    registry: CollectorRegistry
    board: Board | None = None
    """The live page; None = there is none."""
    targets: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    """What there is to scrape, for Prometheus's HTTP service discovery."""
    recent: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    """The requests of the last hour, as figures."""


def front_args(settings: Settings, model_path: Path) -> Namespace:
    """The arguments that vLLM's server would have been started with."""
    model = settings.model
    args: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    chosen = {
        "model": str(model_path),
        "served_model_name": [model.served_name or model_path.name],
        "dtype": model.dtype,
        "max_model_len": model.max_model_len_tokens,
        "seed": model.seed,
        "trust_remote_code": model.trust_remote_code,
        "chat_template": model.chat_template_path,
        "tool_call_parser": model.tool_call_parser,
        "enable_auto_tool_choice": model.tool_call_parser is not None,
        "reasoning_parser": model.reasoning_parser or "",
        "disable_log_stats": True,
        "allowed_origins": list(settings.router.allow_origins),
        # Whatever changes how the model is read must be the same here as in the workers.
        **settings.engine.extra_args,
    }
    for name, value in chosen.items():
        setattr(args, name, value)
    return args


def device_less_config(args: Namespace) -> VllmConfig:
    """A configuration of vLLM that needs no device, as its own render server builds it.

    Raises StartupError for a model that cannot be read or is not served.
    """
    engine_args = AsyncEngineArgs.from_cli_args(args)
    try:
        model_config = engine_args.create_model_config()
    except (OSError, ValueError) as error:
        raise StartupError(
            StartupFault.MODEL_INVALID, f"The model in {args.model} cannot be read: {error}"
        ) from error
    _refuse_model(model_config)
    # Nothing is computed here, so kernels need not exist for the model's quantization.
    model_config.quantization = None
    structured = engine_args.create_structured_outputs_config()
    args.structured_outputs_config = structured
    return VllmConfig(model_config=model_config, structured_outputs_config=structured)


def _refuse_model(model_config: Any) -> None:
    for kind, refused in (
        ("is multimodal", model_config.is_multimodal_model),
        ("is an encoder-decoder model", model_config.is_encoder_decoder),
        ("does not generate text", model_config.runner_type != "generate"),
    ):
        if refused:
            raise StartupError(
                StartupFault.MODEL_INVALID,
                f"The model in {model_config.model} {kind}, which Baton does not serve.",
                hint="Choose a decoder-only text model.",
            )


def build_front(args: Namespace, heart: HeartPort, tracing: Tracing | None = None) -> BatonFront:
    """The front over a heart. Call it in the event loop that will serve."""
    return BatonFront(device_less_config(args), heart, tracing)


async def build_http_app(
    front: BatonFront, args: Namespace, settings: Settings, pages: Pages
) -> FastAPI:
    """vLLM's app on this front, with all routes closed but `OPEN_ROUTES` and Baton's own."""
    app: FastAPI = build_app(args, ("generate",), front.model_config)
    await init_app_state(front, app.state, args, ("generate",))
    guard_handlers(app.state)
    own = [*_own_routes(pages), *_live_page(settings, pages)]
    app.router.routes[:] = [*own, *_sorted_out(app.router.routes)]
    app.state.baton_access = access = access_of(settings, args)
    inside = Middleware(ExplainHeader, explain=pages.explain), Middleware(Exchanges)
    _set_middleware(app, settings, access, pages.knock, *inside)
    _answer_typed(app)
    return app


async def build_linked_app(client: Any, args: Namespace, settings: Settings) -> FastAPI:
    """vLLM's app in a process of its own, over a client of the engine that a router plays.

    As `build_http_app`, without what only the router knows: its pages, tenants and times.
    """
    app: FastAPI = build_app(args, ("generate",), client.model_config)
    await init_app_state(client, app.state, args, ("generate",))
    guard_handlers(app.state)
    app.router.routes[:] = [Route("/health", _health), *_sorted_out(app.router.routes)]
    _set_middleware(app, settings, access_of(settings, args), lambda _caller: nullcontext())
    _answer_typed(app)
    return app


# --- routes ---------------------------------------------------------------------------------------


def _sorted_out(routes: list[BaseRoute]) -> list[BaseRoute]:
    """vLLM's open routes, and a refusal in the place of every other."""
    by_path = {path: route for route in routes if (path := getattr(route, "path", None))}
    if missing := OPEN_ROUTES - by_path.keys():
        raise StartupError(
            StartupFault.VLLM_UNSUPPORTED, f"This vLLM has no {', '.join(sorted(missing))}."
        )
    closed = {*by_path, *MANAGEMENT_ROUTES} - OPEN_ROUTES - _OWN_ROUTES
    opened = [route for route in routes if getattr(route, "path", None) in OPEN_ROUTES]
    return [*opened, *(Route(path, _Blocked()) for path in sorted(closed))]


class _Blocked:
    """Answers every method of a path with ROUTE_BLOCKED."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"{scope['path']} is closed: Baton manages its engines itself."
        await error_response(BatonError(Reason.ROUTE_BLOCKED, message))(scope, receive, send)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _requests(pages: Pages) -> Callable[[Request], Awaitable[Response]]:
    async def requests(_request: Request) -> Response:
        return JSONResponse({"requests": list(pages.recent())})

    return requests


def _own_routes(pages: Pages) -> list[Route]:
    async def ready(_request: Request) -> Response:
        pages.ready()
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        return answer(pages.registry, request)

    async def targets(_request: Request) -> Response:
        return JSONResponse(list(pages.targets()))

    async def status(_request: Request) -> Response:
        return JSONResponse(pages.status())

    async def story(request: Request) -> Response:
        text = pages.story(request.path_params["request_id"], CALLER.get().sees, False)
        if text is None:
            raise HTTPException(404, "No such request, or it is too long ago.")
        return PlainTextResponse(text)

    async def explain(request: Request) -> Response:
        found = pages.explain(request.path_params["request_id"], CALLER.get().sees)
        if not found:
            raise HTTPException(404, "No such request, or it is too long ago.")
        return JSONResponse({"plans": list(found)})

    return [
        Route("/health", _health),
        Route("/ready", ready),
        Route("/metrics", metrics),
        Route("/targets", targets),
        Route("/status", status),
        Route("/requests", _requests(pages)),
        Route("/story/{request_id:path}", story),
        Route("/explain/{request_id:path}", explain),
    ]


def _live_page(settings: Settings, pages: Pages) -> list[Route]:
    if pages.board is None or not settings.router.ui:
        return []
    return ui_routes(pages.board)


def _set_middleware(
    app: FastAPI, settings: Settings, access: Access, knock: Knock, *inside: Middleware
) -> None:
    # vLLM's own count requests and watch for its scaling: both wrap the sending of each token. Its
    # check of VLLM_API_KEY knows neither tenants nor our pages: `access` has that key.
    app.user_middleware.clear()
    # One of vLLM's parts has had the stack built before the app is complete.
    app.middleware_stack = None
    origins = settings.router.allow_origins
    if origins:
        # Before the others: a refusal is for browsers too.
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"]
        )
    app.user_middleware += [
        Middleware(CallerHeaders, knock=knock, access=access),
        Middleware(HttpGuard, max_body_bytes=round(settings.router.max_body_mib * _MIB)),
        *inside,
    ]


# --- errors ---------------------------------------------------------------------------------------


def _answer_typed(app: FastAPI) -> None:
    app.exception_handler(FrontError)(_answer_front_error)
    app.exception_handler(BatonError)(_answer_error)
    app.exception_handler(HTTPException)(_answer_http_exception)
    for name in _NOISY:
        logging.getLogger(name).addFilter(_not_typed)


async def _answer_front_error(_request: Request, exc: FrontError) -> Response:
    return error_response(exc.error)


async def _answer_error(_request: Request, exc: BatonError) -> Response:
    return error_response(exc)


async def _answer_http_exception(_request: Request, exc: HTTPException) -> Response:
    body = {"message": exc.detail, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": body}, exc.status_code, exc.headers)


def _not_typed(record: logging.LogRecord) -> bool:
    """Keeps tracebacks of expected refusals out of the log, where an overload would flood it."""
    return not (record.exc_info and isinstance(record.exc_info[1], FrontError))
