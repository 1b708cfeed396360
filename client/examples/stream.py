"""An answer as it comes: python stream.py [ROUTER]."""

import sys

from baton_client import Client

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
PROMPT = "Once upon a time there was a router that knew every prefix"

with Client(ROUTER) as client, client.stream(PROMPT, max_tokens=60) as stream:
    for piece in stream:
        print(piece, end="", flush=True)
    answer = stream.result()
    print(f"\n-- {answer.usage.completion_tokens} tokens in {answer.total_s:.2f} s")
