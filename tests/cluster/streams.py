"""Answers that go on in the background."""

from __future__ import annotations

import threading

import httpx

from benchmarks.served import Served
from tests.cluster.asking import SHORT


class Streams:
    """Answers that take a while, in the background; each has to be whole."""

    def __init__(self, served: Served, count: int) -> None:
        self._url = f"{served.url}/v1/completions"
        self.tokens = [0] * count
        self.ends = [""] * count
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _read(self, number: int) -> None:
        body = {**SHORT, "prompt": f"stream {number}:", "max_tokens": 400, "stream": True}
        with httpx.stream("POST", self._url, json=body, timeout=60) as answer:
            for line in filter(None, answer.iter_lines()):
                self.tokens[number] += 1
                self.ends[number] = line

    def all_run(self) -> bool:
        return min(self.tokens) > 5

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(120)
