import json
from pathlib import Path

import pytest

from simulator.traces.formats import (
    READERS,
    read_azure,
    read_bailian,
    read_burstgpt,
    read_mooncake,
)
from simulator.traces.request import Request, TraceError

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    return path


def lines(*objects: object) -> str:
    return "".join(json.dumps(o) + "\n" for o in objects)


def mooncake(at: object = 0, tokens: object = 600, answer: object = 9, keys: object = (0, 1)):
    return {"timestamp": at, "input_length": tokens, "output_length": answer, "hash_ids": keys}


def bailian(chat: int, parent: int, at_s: float, tokens: int, keys: list[int]):
    return {
        "chat_id": chat,
        "parent_chat_id": parent,
        "timestamp": at_s,
        "input_length": tokens,
        "output_length": 5,
        "type": "text",
        "turn": 1,
        "hash_ids": keys,
    }


def test_mooncake(tmp_path):
    path = written(tmp_path, lines(mooncake(3000), mooncake(4500, 1024, 7, [0, 2])))
    trace = read_mooncake(path)
    assert trace.requests == (
        Request(0, 0.0, 600, 9, (0, 1)),
        Request(1, 1.5, 1024, 7, (0, 2)),
    )
    assert (trace.name, trace.skipped, trace.seconds) == ("trace", 0, 1.5)
    assert read_mooncake(path, 1).requests == trace.requests[:1]


def test_azure_2023_and_2024(tmp_path):
    text = AZURE + "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,1500,9\r\n"
    trace = read_azure(written(tmp_path, text))
    assert [r.input_tokens for r in trace.requests] == [374, 1500]
    assert trace.requests[1].arrival_s == pytest.approx(4.314579, abs=1e-6)
    keys = [key for r in trace.requests for key in r.blocks]
    assert len(keys) == len(set(keys)) == 4
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,9,5\n2024-05-10 00:00:01+00:00,9,5\n"
    trace = read_azure(written(tmp_path, text))
    assert trace.requests[1].arrival_s == pytest.approx(0.99007, abs=1e-6)


def test_burstgpt_skips_failures_and_reads_sessions(tmp_path):
    text = BURST + "5,ChatGPT,472,18,490,Conversation log\n6,GPT-4,100,0,100,API log\n"
    trace = read_burstgpt(written(tmp_path, text + "9,GPT-4,1,2,3,API log\n"))
    assert [(r.number, r.arrival_s, r.tenant) for r in trace.requests] == [
        (0, 0.0, "ChatGPT"),
        (1, 4.0, "GPT-4"),
    ]
    assert trace.skipped == 1
    text = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n"
    trace = read_burstgpt(written(tmp_path, text + "5.5,17,3.2,GPT-4,472,18\n"))
    assert trace.requests[0].session == "17"


def test_bailian_groups_small_blocks_into_chains(tmp_path):
    head = list(range(32))
    text = lines(
        bailian(1, -1, 0.5, 512, head),
        bailian(2, 1, 1.5, 520, [*head, 40]),
        bailian(3, 2, 2.5, 1024, [*head, *range(40, 72)]),
        bailian(4, -1, 3.0, 1024, [*range(40, 72), *head]),
        bailian(5, 99, 3.0, 16, [7]),
    )
    first, second, third, other, orphan = read_bailian(written(tmp_path, text)).requests
    assert first.blocks[0] == second.blocks[0] == third.blocks[0]
    assert second.blocks[1] != third.blocks[1]
    assert {*other.blocks}.isdisjoint(third.blocks)
    assert [r.session for r in (first, second, third, other)] == ["1", "1", "1", "4"]
    assert (orphan.session, orphan.tenant) == ("99", "text")


def test_bailian_without_the_keys_of_unfinished_blocks(tmp_path):
    head = list(range(32))
    text = lines(bailian(1, -1, 0.5, 520, head), bailian(2, -1, 0.5, 520, head))
    first, second = read_bailian(written(tmp_path, text)).requests
    assert first.blocks[0] == second.blocks[0]
    assert first.blocks[1] != second.blocks[1]


@pytest.mark.parametrize(
    ("reader", "text", "line", "why"),
    [
        ("mooncake", "", 0, "no request"),
        ("mooncake", lines(mooncake()) + "\n" + lines(mooncake()), 2, "empty"),
        ("mooncake", lines(mooncake(5), mooncake(4)), 2, "comes after"),
        ("mooncake", lines(mooncake()) + "{", 2, "not JSON"),
        ("mooncake", "[1]\n", 1, "not a JSON object"),
        ("mooncake", lines({"timestamp": 1}), 1, "input_length is missing"),
        ("mooncake", lines(mooncake("soon")), 1, "timestamp is not a number"),
        ("mooncake", '{"timestamp": NaN}\n', 1, "finite"),
        ("mooncake", lines(mooncake(-1)), 1, "at least 0"),
        ("mooncake", lines(mooncake(tokens=600.5)), 1, "whole number"),
        ("mooncake", lines(mooncake(keys=[1])), 1, "1 keys for 600 tokens, 2 expected"),
        ("mooncake", lines(mooncake(keys="ab")), 1, "list of whole numbers"),
        ("mooncake", lines(mooncake(keys=[True, 1])), 1, "list of whole numbers"),
        ("mooncake", lines(mooncake(answer=0)), 0, "no request"),
        ("mooncake", lines(mooncake()) + "{" + '"a":' * 9999, 2, "not JSON"),
        ("mooncake", '{"timestamp": ' + "9" * 5000 + "}\n", 1, "numbers too long"),
        ("mooncake", "[" * 200_000 + "\n", 1, "values too deep"),
        ("mooncake", '{"timestamp": ' + "9" * 400 + "}\n", 1, "finite number"),
        ("mooncake", lines(mooncake(at=1e300)), 1, "timestamp has to be at most 1e.13"),
        ("mooncake", lines(mooncake(tokens=10**9)), 1, "input_length has to be at most 10000000"),
        ("mooncake", lines(mooncake(keys=[0, 2**127])), 1, "more than 127 bits"),
        ("azure", "", 0, "no request"),
        ("azure", AZURE, 0, "no request"),
        ("azure", "a,b,c\n1,2,3\n", 1, "no column TIMESTAMP"),
        ("azure", AZURE + "yesterday,1,2\n", 2, "not a time"),
        ("azure", AZURE + "2023-11-16 18:15:46.68,1\n", 2, "2 fields instead of 3"),
        ("azure", AZURE + "2023-11-16 18:15:46.68,one,2\n", 2, "ContextTokens is not a number"),
        ("azure", AZURE + "2023-11-16 18:15:46.68,1,2\n\n", 3, "empty"),
        ("azure", AZURE + "x" * 200_000 + ",1,2\n", 2, "not CSV"),
        (
            "azure",
            AZURE + "2023-11-16 18:15:46.68,1,2\n2023-11-16 18:15:46.67,1,2\n",
            3,
            "comes after",
        ),
        ("burstgpt", BURST + "5,ChatGPT,,18,490,log\n", 2, "Request tokens is not a number"),
        ("burstgpt", BURST + "5,ChatGPT,-4,18,490,log\n", 2, "at least 0"),
        ("burstgpt", BURST + "5,ChatGPT,1,18,490,log\n4,ChatGPT,1,1,2,log\n", 3, "comes after"),
        ("bailian", lines(bailian(1, -1, 0.5, 520, [1])), 1, "1 keys for 520 tokens"),
        ("bailian", lines({"timestamp": 1}), 1, "chat_id is missing"),
    ],
)
def test_bad_traces_name_file_and_line(tmp_path, reader, text, line, why):
    path = written(tmp_path, text)
    with pytest.raises(TraceError, match=why) as caught:
        READERS[reader](path, None)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{path}:{line}: " if line else f"{path}: ")


@pytest.mark.parametrize("reader", READERS)
def test_files_that_cannot_be_read(tmp_path, reader):
    with pytest.raises(TraceError, match="No such file"):
        READERS[reader](tmp_path / "nothing", None)
    path = tmp_path / "bytes"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TraceError, match="UTF-8"):
        READERS[reader](path, None)
