"""vLLM's own API server with the engine settings of a Baton worker, to compare with.

usage: python -m benchmarks.vllm_server PORT SETTINGS_JSON
The engine has no KV connector; the rest, the executor included, is what a worker would use.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace

from baton.settings import Settings, extend_process_environ
from deploy.model import model_path, resolved, served_name
from engine import preflight
from engine.environment import engine_environment


def main() -> int:
    port, settings = int(sys.argv[1]), resolved(Settings.model_validate(json.loads(sys.argv[2])))
    found = preflight.check(settings, model_path(settings), preflight.this_machine())
    cores = tuple(sorted(os.sched_getaffinity(0)))[:1]
    extend_process_environ(engine_environment(found.device, 1, cores, "127.0.0.1"))

    import uvloop
    from vllm.entrypoints.launchers.api_server.entry import run_server

    uvloop.run(run_server(_args(port, settings, found)))
    return 0


def _args(port: int, settings: Settings, found: preflight.Preflight) -> Namespace:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from engine.spec import EngineSpec, engine_args

    spec = EngineSpec(
        found.model.path, served_name(settings), found.device, found.dtype, settings, {}
    )
    args: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    own = {
        "host": "127.0.0.1",
        "port": port,
        "disable_uvicorn_access_log": True,
        "uvicorn_log_level": "warning",
    }
    for name, value in {**engine_args(spec), **own}.items():
        setattr(args, name, value)
    validate_parsed_serve_args(args)
    return args


if __name__ == "__main__":
    raise SystemExit(main())
