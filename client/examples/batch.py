"""Many prompts with a progress bar: python batch.py [ROUTER]."""

import sys

from baton_client import BatonError, Client

ROUTER = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
PROMPTS = [f"The square of {number} is" for number in range(50)]

with Client(ROUTER) as client:
    results = client.map(PROMPTS, concurrency=8, max_tokens=8, temperature=0)
for prompt, result in zip(PROMPTS, results, strict=True):
    if isinstance(result, BatonError):
        print(f"{prompt}: failed, {result}")
    else:
        print(f"{prompt}{result.text}")
