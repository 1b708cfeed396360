"""An answer read from the decode worker, past the router: python direct.py [ROUTER].

The cluster has to offer it (`router.direct: true`); else the router brings the answer.
"""

import sys

from baton_client import Client

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
PROMPT = "Once upon a time there was a worker that told its tokens itself"

with Client(ROUTER, direct=True) as client, client.stream(PROMPT, max_tokens=60) as stream:
    for piece in stream:
        print(piece, end="", flush=True)
    answer = stream.result()
    # More than one attempt: a stream broke, and the answer went on behind what had arrived.
    print(f"\n-- {answer.usage.completion_tokens} tokens, {answer.attempts} attempts")
