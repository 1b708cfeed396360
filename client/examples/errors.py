"""What can go wrong and what to do about it: python errors.py [ROUTER]."""

import sys

from baton_client import (
    BatonError,
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    OverloadedError,
    PromptTooLongError,
    Retries,
)

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"


def ask(client: Client, prompt: str) -> str:
    """An answer, or a sentence on why there is none."""
    try:
        return client.generate(prompt, max_tokens=20, timeout_s=30).text
    except PromptTooLongError:
        return ask(client, prompt[: len(prompt) // 2])
    except InvalidRequestError as error:
        return f"(wrong {error.param}: {error.message})"
    except OverloadedError as error:
        return f"(busy, even after retries; come back in {error.retry_after_s or 1:.0f} s)"
    except DeadlineExceededError:
        return "(too slow)"
    except BatonError as error:
        return f"({error}; the story of {error.request_id} tells more)"


with Client(ROUTER, retries=Retries(attempts=3)) as client:
    print(ask(client, "Say something long " * 5))
    try:
        client.generate("Hello", temperature=-1, max_tokens=-1)
    except InvalidRequestError as error:
        print(f"refused: {error}")
