"""The checkpoint of the law."""

import json

import pytest

from cluster.scaling.memory import Memory, Past, PoolMemory, from_json


def test_a_checkpoint_is_plain_json():
    memory = Memory(PoolMemory(Past(1.0, 0.1, 0.2, 5.0, (1.0, -1.0), 3.0, 2), 3), busy_s=9.0)
    assert from_json(json.loads(json.dumps(memory.as_json()))) == memory
    assert from_json(json.loads(json.dumps(Memory().as_json()))) == Memory()


@pytest.mark.parametrize("bad", [{}, {"prefill": {}, "decode": {}}, {"prefill": 1, "decode": 2}])
def test_what_is_no_checkpoint_is_refused(bad):
    with pytest.raises((KeyError, TypeError)):
        from_json(bad)


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError):
        from_json(Memory().as_json() | {"more": 1})
