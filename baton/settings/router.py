"""The settings of the front door, and of what it promises."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from baton.settings.section import Section

DEFAULT_CLASS = "default"
"""The class of tenants that name none: what `slo` itself promises."""
CLASSES_MAX = 15
"""Besides `default`: each class is a label value of several metrics."""
_PORT_MAX = 65535
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Port = Annotated[int, Field(ge=1, le=_PORT_MAX)]


class RouterSettings(Section):
    """The front door: where it listens and what it lets in."""

    routers: int = Field(1, ge=1, description="Router processes.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address that clients reach. Anything but loopback opens it to the network.",
    )
    port: int = Field(
        8000, ge=0, le=65535, description="HTTP port. 0 = any free port, shown at start-up."
    )
    grpc: bool = Field(True, description="Whether the gRPC service baton.v1 is served beside HTTP.")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="gRPC port. null = the one after router.port, and any free one where "
        "router.port is 0. 0 = any free port, shown at start-up.",
    )
    resources: Mapping[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Resources of Ray that each router takes, by name, such as a label that marks "
        "the nodes of routers. A router's successor starts beside it, and takes none of its own.",
    )
    direct: bool = Field(
        default=False,
        description="Whether gRPC clients that ask for it read their answers from decode workers, "
        "past the router. Workers then listen for clients too, with the router's certificate.",
    )
    direct_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address where workers listen for those clients. node = each on the address "
        "that Ray knows its machine by; 0.0.0.0 = on all of its addresses, reached at that one.",
    )
    direct_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Their port; the same for all workers, so only where each has an address of "
        "its own. 0 = any free port.",
    )
    front: Literal["auto", "in-process", "python-processes", "rust"] = Field(
        "auto",
        description="Which of vLLM's front ends serves the port. in-process = its Python server in "
        "the router itself, with typed errors and Baton's headers; python-processes, rust = "
        "processes of their own, which cost less but know neither. auto = in-process.",
    )
    front_processes: int = Field(
        1, ge=1, le=64, description="Front-end processes of each router, where they are processes."
    )
    front_tenants: dict[_Name, _Port] = Field(
        default_factory=dict,
        max_length=64,
        description="Tenants with a front-end process of their own, by name: the port it serves. "
        "Whoever asks there is that tenant, whatever the headers say. Only with front processes, "
        "and with router.grpc: false.",
    )
    rust_front_path: str | None = Field(
        None,
        min_length=1,
        description="vLLM's Rust front end. null = where `make rust-front` puts it, or where the "
        "official wheel of vLLM has it.",
    )
    max_inflight_requests: int = Field(
        1024, ge=1, description="Most requests inside one router; beyond it answers 429."
    )
    max_body_mib: float = Field(16, gt=0, description="Largest request body, in MiB.")
    request_timeout_s: float = Field(
        600, gt=0, description="Seconds after which a request is ended with an error."
    )
    retry_after_s: float = Field(
        1, ge=0, description="Seconds that a refused client is told to wait (Retry-After)."
    )
    disaggregate: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether prompts are computed by the prefill pool. auto = where it pays, "
        "always = wherever possible, never = decode workers do both.",
    )
    min_disaggregated_tokens: int = Field(
        0,
        ge=0,
        description="With auto, prompts with fewer uncached tokens stay on the decode worker.",
    )
    policy: Literal["affinity", "least_loaded", "round_robin"] = Field(
        "affinity",
        description="How workers are chosen. affinity = where the prompt's prefix is cached, "
        "weighed against the queues; least_loaded = the shortest queue; round_robin = in turn.",
    )
    ask: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether affinity asks candidates for their queue and cache before it sends. "
        "auto = when its own view is too old, or the promise is in danger.",
    )
    queue_ahead_s: float = Field(
        1.0,
        gt=0,
        description="Seconds of work that a prefill worker gets ahead; the rest waits in the "
        "router, where it can still go elsewhere.",
    )
    view_max_age_s: float = Field(
        0.5,
        gt=0,
        description="Age in seconds from which on a worker's report counts as unknown. Workers "
        "report at least four times a second.",
    )
    worker_silence_s: float = Field(
        1.0,
        gt=0,
        description="A connected worker that says nothing for this many seconds is taken for lost: "
        "its requests go elsewhere. Workers speak at least four times a second. Half of it is "
        "enough to get no new requests.",
    )
    ui: bool = Field(
        True,
        description="Whether the live page is served at /ui. It shows ids and figures, no prompts.",
    )
    allow_origins: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Web origins whose pages may call the API (CORS). Empty = none.",
    )

    @model_validator(mode="after")
    def _tenants_have_processes(self) -> Self:
        if self.front_tenants and self.front in {"auto", "in-process"}:
            raise ValueError(
                f"router.front_tenants is given and router.front is {self.front!r}; allowed: rust "
                "or python-processes, because the router itself tells tenants by their header"
            )
        if self.front_tenants and self.grpc:
            raise ValueError(
                "router.front_tenants is given and router.grpc is true; set router.grpc: false, "
                "because gRPC takes x-baton-tenant on trust"
            )
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.grpc and self.grpc_port and self.grpc_port == self.port:
            raise ValueError(
                f"router.grpc_port is {self.grpc_port}; allowed: another port than router.port, or "
                "router.grpc: false"
            )
        taken = {self.port}
        for tenant, port in self.front_tenants.items():
            if port in taken:
                raise ValueError(
                    f"router.front_tenants.{tenant} is {port}; allowed: another port than "
                    "router.port and other tenants have"
                )
            taken.add(port)
        return self

    @property
    def grpc_port_wanted(self) -> int | None:
        """Where gRPC is to listen; 0 = at any free port, None = nowhere."""
        if not self.grpc:
            return None
        if self.grpc_port is not None:
            return self.grpc_port
        return self.port + 1 if 0 < self.port < _PORT_MAX else 0


class SloClassSettings(Section):
    """What is promised to one class of tenants where it differs from `slo`; null = as there."""

    ttft_s: float | None = Field(None, gt=0)
    ttft_s_per_1000_tokens: float | None = Field(None, ge=0)
    tpot_s: float | None = Field(None, gt=0)


class SloSettings(Section):
    """The service level objectives: what routing and scaling aim at."""

    ttft_s: float = Field(
        2.0, gt=0, description="Time to first token in seconds, of a prompt of no length."
    )
    ttft_s_per_1000_tokens: float = Field(
        0.25, ge=0, description="What each 1,000 tokens of the prompt add to it, in seconds."
    )
    tpot_s: float = Field(
        0.1, gt=0, description="Time per output token after the first, in seconds."
    )
    percentile: float = Field(
        0.9, gt=0, lt=1, description="Share of requests for which scaling keeps both."
    )
    window_s: float = Field(
        60.0, gt=0, description="Seconds over which scaling measures whether they are kept."
    )
    classes: dict[_Name, SloClassSettings] = Field(
        default_factory=dict,
        max_length=CLASSES_MAX,
        description="Classes of tenants with promises of their own, by name: ttft_s, "
        "ttft_s_per_1000_tokens and tpot_s, each as above where it is left out. A tenant names its "
        "class (admission.tenants); `default` is the class of all others and promises the above.",
    )

    @model_validator(mode="after")
    def _default_is_this(self) -> Self:
        if DEFAULT_CLASS in self.classes:
            raise ValueError(
                f"slo.classes.{DEFAULT_CLASS} is given; allowed: any other name, because the "
                f"class {DEFAULT_CLASS} promises what slo itself does"
            )
        return self

    def of_class(self, name: str) -> "SloSettings":
        """The promises of one class. Raises KeyError for one that does not exist."""
        if name == DEFAULT_CLASS:
            return self
        return self.model_copy(update=self.classes[name].model_dump(exclude_none=True))

    def ttft_of(self, prompt_tokens: int) -> float:
        """The promise for a prompt of this length, in seconds."""
        return self.ttft_s + self.ttft_s_per_1000_tokens * prompt_tokens / 1000
