"""Several answers at once on one event loop: python async_streams.py [ROUTER]."""

import asyncio
import sys

from baton_client import AsyncClient

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
PROMPTS = ["The capital of France is", "The capital of Japan is", "The capital of Peru is"]


async def tell(client: AsyncClient, prompt: str) -> str:
    """Stream one answer; leaving the block early would cancel it."""
    async with client.stream(prompt, max_tokens=10) as stream:
        text = "".join([piece.text async for piece in stream])
    return f"{prompt}: {text} ({(await stream.result()).total_s:.2f} s)"


async def main() -> None:
    """Ask all at once."""
    async with AsyncClient(ROUTER) as client:
        for line in await asyncio.gather(*(tell(client, prompt) for prompt in PROMPTS)):
            print(line)


asyncio.run(main())
