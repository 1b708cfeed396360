"""Facts about workers that tests need and do not care about."""

from baton.ids import WorkerId
from baton.messages import Dispatch, Role, WorkerInfo

DIGEST = "0123456789abcdef"


def info(worker_id: str, incarnation: int, role: Role, digest: str = DIGEST) -> WorkerInfo:
    """A worker that is ready."""
    return WorkerInfo(
        worker_id=WorkerId(worker_id),
        incarnation=incarnation,
        role=role,
        address="127.0.0.1:5000",
        config_digest=digest,
        connector="fake",
        dispatch=Dispatch.SEQUENTIAL,
        served_model="demo",
        max_model_len_tokens=4096,
        block_size_tokens=16,
        kv_blocks=100,
        dtype="float32",
        device="cpu",
        vllm_version="0.32.0",
        pid=100,
        engine_pid=101,
        transfer_agent=agent(worker_id, incarnation),
        engine_started=7,
    )


def agent(worker_id: str, incarnation: int) -> str:
    """The name of its engine, as transfers know it."""
    return f"agent of {worker_id} start {incarnation}"
