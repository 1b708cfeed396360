"""How many workers a pool has, what each may use, and where Ray puts it."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from baton.settings.section import Section

_OWN = frozenset({"CPU", "GPU", "memory", "object_store_memory"})


class PoolSettings(Section):
    """How many workers a pool has, and what each may use."""

    workers: int = Field(1, ge=0, description="Workers in this pool.")
    max_queued_requests: int = Field(
        512, ge=1, description="Most requests waiting in one worker; beyond it refuses."
    )
    cpus_per_worker: float = Field(
        1.0, ge=0, description="CPU cores that Ray sets aside for each worker."
    )
    gpus_per_worker: float | None = Field(
        None,
        ge=0,
        description="GPUs that Ray sets aside for each worker. null = "
        "engine.tensor_parallel_size on cuda, 0 on cpu.",
    )
    accelerator_type: str | None = Field(
        None,
        min_length=1,
        description="Kind of accelerator that a worker needs, as Ray names it, such as H100. "
        "null = any.",
    )
    resources: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Further resources of Ray that each worker takes, by name, such as a label "
        "that marks the nodes of this pool.",
    )
    placement: Literal["pack", "spread"] = Field(
        "pack",
        description="pack = workers go where the most of both pools are, and fill a node before "
        "they take the next; spread = those of this pool go to as many nodes as there are.",
    )

    @field_validator("resources")
    @classmethod
    def _are_further(cls, resources: Mapping[str, float]) -> Mapping[str, float]:
        if own := _OWN & resources.keys():
            raise ValueError(
                f"{sorted(own)[0]} is set by cpus_per_worker and gpus_per_worker; allowed: other "
                "names"
            )
        return resources
