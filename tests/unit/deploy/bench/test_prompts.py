"""Prompts: as long as asked, shared where the keys are."""

from deploy.bench.prompts import Prompts
from simulator.traces.request import Request


def request(tokens: int, *keys: int) -> Request:
    return Request(0, 0.0, tokens, 1, keys)


def test_equal_keys_are_equal_tokens() -> None:
    prompts = Prompts("a")
    one, other = prompts.of(request(1000, 1, 2)), prompts.of(request(1030, 1, 3, 4))
    assert (len(one), len(other)) == (1000, 1030)
    assert one[:512] == other[:512]
    assert one[512:600] != other[512:600]
    assert prompts.of(request(1000, 1, 2)) == one
    assert all(isinstance(token, int) for token in one)


def test_another_salt_makes_other_prompts() -> None:
    assert Prompts("a").of(request(100, 1)) != Prompts("b").of(request(100, 1))


def test_words_are_as_many_as_make_the_tokens() -> None:
    text = Prompts("a", 0.75).of(request(400, 1))
    assert isinstance(text, str)
    assert len(text.split()) == 300


def test_what_the_endpoint_adds_is_part_of_the_length() -> None:
    prompts = Prompts("a", 1.0, overhead_tokens=40)
    text = prompts.of(request(600, 1, 2))
    assert isinstance(text, str)
    assert len(text.split()) == 560
    # Prefixes are still shared, and a prompt is never empty.
    assert text.startswith(str(prompts.of(request(100, 1))))
    assert len(str(prompts.of(request(10, 1))).split()) == 1
    assert len(str(prompts.of(request(530, 1, 2))).split()) == 490
