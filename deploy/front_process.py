"""vLLM's Python API server as a front-end process of a router.

usage: python -m deploy.front_process DOOR_FD INPUT_FD OUTPUT_FD JSON
The descriptors are listening sockets that the router has opened: for clients, and for the engine
that it plays. The JSON has the settings and the model's folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvloop

from baton.settings import Settings
from deploy.imports import uncollected
from router.listen import serve


class TypedFailures:
    """Between vLLM's client of engines and its output processor: an output that says why its
    request failed is raised in that request's stream, as the router itself would."""

    def __init__(self, llm: Any) -> None:
        self._processor = llm.output_processor
        self._get = llm.engine_core.get_output_async
        self._abort = llm.engine_core.abort_requests_async

    async def get_output_async(self) -> Any:
        """The next step, without what failed."""
        step = await self._get()
        last = [one for one in step.outputs if one.finish_reason is not None]
        ended = {name for one in last for name in self._fail(one)}
        if ended:
            step.outputs = [one for one in step.outputs if one.request_id not in ended]
        # One of several answers that failed ends the others, which are still worked at.
        if working := ended - {one.request_id for one in last}:
            await self._abort(sorted(working))
        return step

    def _fail(self, output: Any) -> list[str]:
        """What ends with this output if it is a failure's."""
        from router.engine_link import failure_of
        from router.front import FrontError

        error = failure_of(output)
        state = self._processor.request_states.get(output.request_id)
        if error is None or state is None:
            return []
        whole = state.request_id if state.parent_req is None else state.parent_req.request_id
        ended: list[str] = self._processor.abort_requests([whole], internal=True)
        # Last, because an exception replaces the aborted output that was just queued.
        state.queue.put(FrontError(error))
        return ended


def linked_llm(config: Any, input_: socket.socket, output: socket.socket) -> Any:
    """An AsyncLLM whose engine is whoever connects to these listening sockets. Waits for it."""
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    addresses = {
        "input_address": f"ipc://{input_.getsockname()}",
        "output_address": f"ipc://{output.getsockname()}",
        "input_listener": input_,
        "output_listener": output,
    }
    llm = AsyncLLM(
        config, UniProcExecutor, log_stats=False, log_requests=False, client_addresses=addresses
    )
    llm.engine_core.get_output_async = TypedFailures(llm).get_output_async
    return llm


async def _run(fds: list[int], given: dict[str, Any]) -> None:
    # Late: importing vLLM takes seconds.
    with uncollected():
        from router.http import build_linked_app, device_less_config, front_args

    settings = Settings.model_validate(given["settings"])
    door, input_, output = (socket.socket(fileno=fd) for fd in fds)
    args = front_args(settings, Path(given["model"]))
    llm = linked_llm(device_less_config(args), input_, output)
    door.setblocking(False)
    server = await serve(await build_linked_app(llm, args, settings), door)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(settings.cluster.drain_timeout_s)
    llm.shutdown(timeout=0)


def main(argv: list[str]) -> None:
    """Serves until SIGTERM, then answers what has come and ends."""
    *fds, given = argv
    uvloop.run(_run([int(fd) for fd in fds], json.loads(given)))
    # At once: libraries of vLLM complain at length of how a process ends.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
