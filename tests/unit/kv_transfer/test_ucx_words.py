"""What UCX prints, read: excerpts of what UCX 1.20 printed, and of what others reported."""

from __future__ import annotations

import math

from kv_transfer.ucx_words import EMULATED, Carrier, carrier_of, carriers, complaints, remedy

TCP = """
[1795257801.4] [vm:5069 :0]   | A02ca self cfg#0                                         |
[1795257801.4] [vm:5069 :0]   | remote memory write by ucp_put* from host memory to host |
[1795257801.4] [vm:5069 :0]   +--------+-------------+-----------------------------------+
[1795257801.4] [vm:5069 :0]   | Range  | Description |              Config               |
[1795257801.4] [vm:5069 :0]   +--------+-------------+-----------------------------------+
[1795257801.4] [vm:5069 :0]   | 0..inf | copy        | self/memory                       |
[1795257803.0] [vm:5069 :0]   | A02ca intra-node cfg#1                                          |
[1795257803.0] [vm:5069 :0]   | remote memory write by ucp_put*(multi) from host memory to host |
[1795257803.0] [vm:5069 :0]   +--------+-------------+-----------------------------------+
[1795257803.0] [vm:5069 :0]   | 0..inf | zero-copy   | 52% on tcp/lo and 48% on tcp/eth0 |
[1795257803.0] [vm:5069 :0]   | A02ca intra-node cfg#1                        |
[1795257803.0] [vm:5069 :0]   | active message by ucp_am_send* from host memory |
[1795257803.0] [vm:5069 :0]   | 1..16515 | zero-copy | cma/memory |
[1795257803.3] [vm:5069 :0]   | A02ca intra-node cfg#1                                         |
[1795257803.3] [vm:5069 :0]   | remote memory read by ucp_get*(multi) into host memory from host |
[1795257803.3] [vm:5069 :0]   | 0..inf | software emulation | tcp/lo                             |
"""
RDMA = """
  | ucp_context_0 intra-node cfg#1 | remote memory write by ucp_put*(fast-completion) from host |
  |     0..2K | short     | rc_mlx5/mlx5_0:1/path0                         |
  | 2049..inf | zero-copy | rc_mlx5/mlx5_0:1 50% on path0 and 50% on path1 |
"""
SHM_ALONE = """
[1795257806.3] [vm:5081 :0]   select.c:722  UCX  ERROR   no active messages transport to x: sysv
W1121 10:43:26.340559    5081 ucx_enums.cpp:58] Unexpected UCX error: Destination is unreachable
[1795257808.2] [vm:5084 :0]   select.c:722  UCX  ERROR   no active messages transport to x: sysv
"""
BOGUS = """
[1.0] [vm:5 :0] ucp_context.c:1508 UCX  WARN  transport 'bogus' is not available, please use x
[1.0] [vm:5 :0] ucp_context.c:1770 UCX  ERROR no usable transports/devices (asked bogus on y)
"""


def test_what_an_agent_does_to_itself_and_messages_are_left_out() -> None:
    assert carriers(TCP) == [
        Carrier("WRITE", 0, math.inf, "zero-copy", "52% on tcp/lo and 48% on tcp/eth0"),
        Carrier("READ", 0, math.inf, EMULATED, "tcp/lo"),
    ]
    assert carriers("") == []


def test_transports_are_named_once() -> None:
    write, read = carriers(TCP)
    assert write.transports == read.transports == ("tcp",)


def test_the_row_for_the_size_counts() -> None:
    found = carriers(RDMA)
    small, large = carrier_of(found, "WRITE", 2048), carrier_of(found, "WRITE", 2049)
    assert (small.how, large.how) == ("short", "zero-copy")
    assert large.transports == ("rc_mlx5",)
    assert carrier_of(found, "READ", 2048) is None


def test_the_last_word_counts() -> None:
    later = TCP.replace("52% on tcp/lo and 48% on tcp/eth0", "cma/memory")
    found = carrier_of(carriers(TCP + later), "WRITE", 65536)
    assert found.transports == ("cma",)


def test_complaints_come_once_and_with_a_remedy() -> None:
    assert complaints(SHM_ALONE) == ["no active messages transport to x: sysv"]
    assert "tcp,shm" in remedy(complaints(SHM_ALONE))
    assert [line.split()[0] for line in complaints(BOGUS)] == ["transport", "no"]
    assert "on this machine" in remedy(complaints(BOGUS))
    assert remedy(complaints(TCP)) == ""
