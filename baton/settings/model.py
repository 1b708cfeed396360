"""Every setting of Baton, with its unit, default and meaning.

The models are frozen and strict: an unknown key, a string where a number belongs or a value out
of range is refused before anything starts. Units stand in the names. This file knows nothing of
files or environments; `load` does.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from baton.settings.access import AccessSettings
from baton.settings.admission import AdmissionSettings
from baton.settings.pool import PoolSettings
from baton.settings.router import DEFAULT_CLASS, RouterSettings, SloSettings
from baton.settings.runtime_env import RuntimeEnv
from baton.settings.scaling import ScalingSettings
from baton.settings.section import Section
from baton.settings.tls import TlsSettings
from baton.settings.tracing import TracingSettings


class ModelSettings(Section):
    """Which model is served, and how it is read."""

    path: str | None = Field(
        None,
        min_length=1,
        description="Folder of a model in the Hugging Face layout, the same on every machine. "
        "null = the demo model that ships with Baton.",
    )
    served_name: str | None = Field(
        None,
        min_length=1,
        description="Model name that clients use. null = the name of the model's folder.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of weights and KV cache. auto = as the model says, but float32 "
        "on CPUs that have no instructions for bfloat16.",
    )
    max_model_len_tokens: int | None = Field(
        None,
        ge=1,
        description="Longest prompt plus answer, in tokens. null = as the model says.",
    )
    seed: int = Field(0, ge=0, description="Seed of the engines' random numbers.")
    trust_remote_code: bool = Field(
        default=False, description="Whether Python code inside the model folder may run."
    )
    enforce_eager: bool | None = Field(
        None,
        description="Run without compilation and graphs: starts sooner, computes slower. "
        "null = without them on CPU, with them on GPUs.",
    )
    tool_call_parser: str | None = Field(
        None,
        min_length=1,
        description="vLLM's parser for tool calls in answers. null = tool calls are not parsed.",
    )
    reasoning_parser: str | None = Field(
        None,
        min_length=1,
        description="vLLM's parser for reasoning in answers. null = reasoning is not split off.",
    )
    chat_template_path: str | None = Field(
        None,
        min_length=1,
        description="File with a Jinja chat template. null = the template in the model folder.",
    )


class EngineSettings(Section):
    """How each vLLM engine runs; the same for both pools."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where engines compute. auto = cuda where there is a GPU, else cpu."
    )
    tensor_parallel_size: int = Field(1, ge=1, description="Devices that share one engine.")
    block_size_tokens: int | None = Field(
        None, ge=1, description="Tokens in one KV block. null = vLLM's choice for the device."
    )
    kv_cache_gib: float = Field(
        1.0, gt=0, description="KV cache of each worker on CPU, in GiB. Not used on GPUs."
    )
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="Share of a GPU's memory for one engine. Not used on CPU."
    )
    max_batched_tokens: int | None = Field(
        None, ge=1, description="Most tokens in one engine step. null = vLLM's choice."
    )
    max_running_requests: int = Field(
        256, ge=1, description="Most requests that one engine runs at the same time."
    )
    cpu_threads: int = Field(
        1, ge=1, description="OpenMP threads of each engine. Together at most the machine's cores."
    )
    start_timeout_s: float = Field(
        600, gt=0, description="Seconds that an engine may take to load before it is given up."
    )
    step_silence_timeout_s: float = Field(
        60,
        gt=0,
        description="An engine that has work but completes no step for this many seconds is "
        "taken to be stuck and is restarted. Has to exceed the longest step: a large model on CPU "
        "may need minutes.",
    )
    prefix_caching: bool = Field(
        default=True,
        description="Whether engines keep the KV of prompts to reuse it for equal prefixes.",
    )
    metrics: bool = Field(
        default=True,
        description="Whether each worker exports vLLM's own metrics (vllm:*), over HTTP on a free "
        "port of cluster.bind_host. The router's /targets lists them for Prometheus.",
    )
    extra_args: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Further engine arguments of vLLM, passed as they are. They win over the "
        "settings above, and are checked by vLLM only.",
    )


class KvTransferSettings(Section):
    """How the KV cache gets from prefill to decode."""

    connector: Literal["baton", "vllm-nixl-pull", "vllm-nixl-push"] = Field(
        "baton",
        description="What moves the KV. baton = Baton's own: prefill writes while it computes, "
        "every block is proved free before it is reused. vllm-nixl-pull = vLLM's connector: decode "
        "reads once prefill has ended. vllm-nixl-push = vLLM's connector: prefill writes once it "
        "has ended. vLLM's serve models that baton refuses, such as those with Mamba layers.",
    )
    stream: Literal["layer", "chunk"] = Field(
        "layer",
        description="When Baton's connector lets KV leave: layer = as soon as a layer of a step is "
        "computed, where the engine says so; chunk = after each engine step.",
    )
    ucx_tls: str | None = Field(
        None,
        min_length=1,
        description="Transports that UCX may use, such as 'tcp' or 'tcp,shm' (shared memory alone "
        "carries no messages). null = UCX's choice. `baton transport test` shows what it means.",
    )
    verify: Literal["off", "sampled", "full"] = Field(
        "sampled",
        description="Checksums of Baton's connector: full = of every block, and none may be "
        "missing; sampled = of one write in eight; off = none.",
    )
    on_load_failure: Literal["recompute", "fail"] = Field(
        "recompute",
        description="What decode does with a request whose KV did not arrive whole: recompute = "
        "computes the prompt itself; fail = ends the request with transfer_failed.",
    )
    write_deadline_s: float = Field(
        30,
        gt=0,
        description="Seconds from the registration of decode's blocks, when prefill begins with "
        "the prompt, until Baton's connector writes no more into them. Has to exceed the longest "
        "prefill.",
    )
    abort_timeout_s: float = Field(
        30,
        gt=0,
        description="Seconds that prefill keeps blocks that nobody fetches, and that decode waits "
        "for a prefill that gives no sign of life.",
    )
    quarantine_max_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of a decode worker's KV blocks that may be out of use because nobody "
        "can prove that no write will hit them. Above it the worker is restarted.",
    )
    min_gb_per_second: float = Field(
        0,
        ge=0,
        description="Slowest rate (10^9 bytes a second, whole KV blocks) that the self-test of a "
        "pair of workers may measure. 0 = any.",
    )
    on_slow_transport: Literal["warn", "refuse"] = Field(
        "warn",
        description="What happens below min_gb_per_second: warn = a line in the log and a metric; "
        "refuse = the pair hands nothing over.",
    )


class ClusterSettings(Section):
    """Which processes exist, where they run, and how they are watched."""

    name: str = Field(
        "baton",
        pattern=r"^[a-z0-9-]+$",
        max_length=63,
        description="Name of this cluster, unique per Ray: lower-case letters, digits, hyphens.",
    )
    ray_address: str = Field(
        "auto",
        min_length=1,
        description="Which Ray to use. auto = join one that runs, else start one; local = always "
        "start one; anything else = the address of a running Ray.",
    )
    bind_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address where workers listen for routers and for each other. node = each on "
        "the address that Ray knows its machine by, for a Ray of several machines; 0.0.0.0 = on "
        "all of its addresses, reached at that one.",
    )
    restart_backoff_s: float = Field(
        1, gt=0, description="Seconds before a dead worker is started again; doubles each time."
    )
    restart_backoff_max_s: float = Field(
        30, gt=0, description="Longest wait before a dead worker is started again, in seconds."
    )
    health_interval_s: float = Field(
        1, gt=0, description="Seconds between two looks at the health of a worker."
    )
    drain_timeout_s: float = Field(
        30, ge=0, description="Seconds that running requests have to finish when stopping."
    )
    run_dir: str | None = Field(
        None,
        min_length=1,
        description="Folder for logs and run-time files. null = a folder of this user under the "
        "system's temporary folder.",
    )
    object_store_mib: int = Field(
        100, ge=75, description="Ray's object store, in MiB, when Baton starts Ray."
    )
    runtime_env: RuntimeEnv = Field(default_factory=dict)

    @model_validator(mode="after")
    def _backoff_grows(self) -> Self:
        if self.restart_backoff_max_s < self.restart_backoff_s:
            raise ValueError(
                f"cluster.restart_backoff_max_s is {self.restart_backoff_max_s}; allowed: at "
                f"least cluster.restart_backoff_s, which is {self.restart_backoff_s}"
            )
        return self


class LogSettings(Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe events that are logged."
    )
    format: Literal["text", "json"] = Field(
        "text", description="text = lines for people, json = one object per line for machines."
    )
    per_second: int = Field(
        20,
        ge=0,
        description="Most events of one kind that a process logs in a second; the next one says "
        "how many were left out. 0 = all are logged.",
    )


class Settings(Section):
    """All settings of one cluster."""

    model: ModelSettings = Field(default_factory=ModelSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    prefill: PoolSettings = Field(default_factory=PoolSettings)
    decode: PoolSettings = Field(default_factory=PoolSettings)
    kv_transfer: KvTransferSettings = Field(default_factory=KvTransferSettings)
    router: RouterSettings = Field(default_factory=RouterSettings)
    slo: SloSettings = Field(default_factory=SloSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    admission: AdmissionSettings = Field(default_factory=AdmissionSettings)
    scaling: ScalingSettings = Field(default_factory=ScalingSettings)
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @field_validator("decode")
    @classmethod
    def _someone_decodes(cls, decode: PoolSettings) -> PoolSettings:
        if decode.workers < 1:
            raise ValueError(
                "decode.workers is 0; allowed: at least 1, because every answer is generated by a "
                "decode worker (prefill.workers may be 0: then decode workers do both)"
            )
        return decode

    @model_validator(mode="after")
    def _someone_prefills(self) -> Self:
        if self.router.disaggregate == "always" and self.prefill.workers == 0:
            raise ValueError(
                "router.disaggregate is 'always' and prefill.workers is 0; allowed: at least 1 "
                "prefill worker, or 'auto' or 'never'"
            )
        return self

    @model_validator(mode="after")
    def _scaling_fits(self) -> Self:
        self.scaling.check_start(self.prefill.workers, self.decode.workers)
        self.scaling.check_budget(*map(self.gpus_of, (self.prefill, self.decode)))
        return self

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        known = (DEFAULT_CLASS, *self.slo.classes)
        for name, tenant in self.admission.tenants.items():
            if tenant.slo_class is not None and tenant.slo_class not in known:
                raise ValueError(
                    f"admission.tenants.{name}.slo_class is {tenant.slo_class!r}; allowed: a class "
                    f"in slo.classes, which has {', '.join(known)}"
                )
        return self

    @model_validator(mode="after")
    def _fronts_know_no_keys(self) -> Self:
        guarded = {
            "access.keys_path": self.access.keys_path is not None,
            "tls.cert_path": self.tls.public,
        }
        given = [name for name, is_given in guarded.items() if is_given]
        if given and self.router.front not in {"auto", "in-process"}:
            raise ValueError(
                f"{given[0]} is given and router.front is {self.router.front!r}; allowed: "
                "in-process, because front-end processes serve whoever asks, without encryption"
            )
        return self

    def gpus_of(self, pool: PoolSettings) -> float:
        """GPUs of one worker; where the device is found out at start, as if there were GPUs."""
        if pool.gpus_per_worker is not None:
            return pool.gpus_per_worker
        return 0 if self.engine.device == "cpu" else self.engine.tensor_parallel_size


def is_loopback(host: str) -> bool:
    """Whether `host` is surely reachable from this machine only.

    A host name other than localhost is not: what it resolves to can change.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
