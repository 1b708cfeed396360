"""A conversation: python chat.py [ROUTER]. Lines of stdin are what you say."""

import sys

from baton_client import Client

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
SAID = sys.stdin if sys.stdin.isatty() else ["Who wrote Faust?", "And when?"]

with Client(ROUTER) as client, client.session(system="Be brief.", max_tokens=60) as chat:
    for line in SAID:
        with chat.stream(line.strip()) as stream:
            for piece in stream:
                print(piece, end="", flush=True)
            usage = stream.result().usage
        print(
            f"\n-- {usage.cached_prompt_tokens} of {usage.prompt_tokens} prompt tokens were cached"
        )
