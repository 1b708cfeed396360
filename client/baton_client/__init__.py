"""The client of a Baton cluster: text generation over gRPC, streamed, typed, with retries.

from baton_client import Client

with Client("localhost:8001") as client:
    print(client.generate("Once upon a time", max_tokens=50))
"""

from baton_client.aio import AsyncClient, AsyncSession
from baton_client.aio_stream import AsyncStream
from baton_client.answers import (
    Choice,
    Completion,
    Embeddings,
    FinishReason,
    Model,
    Piece,
    Position,
    Timing,
    TokenCount,
    TokenLogprob,
    Usage,
)
from baton_client.client import Client, Session
from baton_client.connection import TlsOptions
from baton_client.errors import (
    BatonError,
    DeadlineExceededError,
    DuplicateRequestError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    PromptTooLongError,
    RequestCancelledError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from baton_client.prompts import Message, Prompt, Sampling
from baton_client.retries import Retries
from baton_client.stream import Stream

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "AsyncStream",
    "BatonError",
    "Choice",
    "Client",
    "Completion",
    "DeadlineExceededError",
    "DuplicateRequestError",
    "Embeddings",
    "FinishReason",
    "InvalidRequestError",
    "Message",
    "Model",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "Piece",
    "Position",
    "Prompt",
    "PromptTooLongError",
    "RequestCancelledError",
    "Retries",
    "Sampling",
    "ServerError",
    "Session",
    "Stream",
    "Timing",
    "TlsOptions",
    "TokenCount",
    "TokenLogprob",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "Usage",
]
