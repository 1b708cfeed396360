"""One prompt, one answer: python hello.py [ROUTER]."""

import sys

from baton_client import Client

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"

with Client(ROUTER) as client:
    answer = client.generate("def fibonacci(n):", max_tokens=40, temperature=0)
    print(answer.text)
    print(f"-- {answer.usage.completion_tokens} tokens, ended by {answer.finish_reason}")
    if answer.timing is not None:
        split = answer.timing
        print(
            f"-- {split.ttft_s:.3f} s to the first token, prefill {split.prefill_compute_s:.3f} s"
        )
