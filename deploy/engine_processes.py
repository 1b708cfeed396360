"""Which processes are an engine's: whoever vouches for its end names them."""

from __future__ import annotations

from cluster.processes import find
from engine.ports import EngineFacts
from kv_transfer.endpoint import decode_endpoint
from kv_transfer.liveness import this_host


def transfer_agent(facts: EngineFacts) -> str:
    """The name under which peers know it; empty where its end could not be vouched for."""
    if not facts.transfer_endpoint:
        return ""
    endpoint = decode_endpoint(facts.transfer_endpoint)
    # The end of the named processes has to be the end of whoever owns the agent.
    own = endpoint.layout.ranks == 1 and endpoint.process.pid == facts.pid
    return endpoint.agent if own or ranks(facts) else ""


def ranks(facts: EngineFacts) -> tuple[tuple[int, int], ...]:
    """The processes of a tensor-parallel engine's devices; none unless all are of this host."""
    if not facts.transfer_endpoint:
        return ()
    first = decode_endpoint(facts.transfer_endpoint)
    processes = [one.process for one in (first, *first.others)] if first.others else []
    here = this_host()
    if any(process.host != here for process in processes):
        return ()
    return tuple((process.pid, process.started) for process in processes)


def started(pid: int) -> int:
    """When a process of this machine began, in clock ticks; 0 = there is none."""
    process = find(pid)
    return 0 if process is None else process.started
