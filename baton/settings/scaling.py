"""How many workers the pools may have, and who decides it."""

from typing import Literal, Self

from pydantic import Field, model_validator

from baton.settings.section import Section


class ScalingSettings(Section):
    """How many workers the pools may have, and who decides it."""

    mode: Literal["manual", "auto"] = Field(
        "manual",
        description="manual = as many workers as prefill.workers and decode.workers say; auto = "
        "the scaling law decides, starting from those.",
    )
    prefill_min_workers: int = Field(1, ge=0, description="Fewest prefill workers.")
    prefill_max_workers: int = Field(8, ge=0, description="Most prefill workers.")
    decode_min_workers: int = Field(
        1, ge=0, description="Fewest decode workers. 0 needs zero_after_s above 0."
    )
    decode_max_workers: int = Field(8, ge=1, description="Most decode workers.")
    gpu_budget: int = Field(
        0, ge=0, description="Most GPUs of both pools together. 0 = as many as there are."
    )
    interval_s: float = Field(5.0, gt=0, description="Seconds between two decisions.")
    startup_s: float = Field(
        60.0,
        gt=0,
        description="Seconds from asking for a worker until it serves, until one was measured.",
    )
    warm_timeout_s: float = Field(
        30.0,
        ge=0,
        description="Seconds that a new worker has for its first requests, before it gets any of a "
        "user: one of its own, and one with each peer. After them it is ready in any case, and "
        "says what is missing. 0 = no such requests.",
    )
    warm_peers_max: int = Field(
        8,
        ge=0,
        description="Most workers of the other pool with which a new worker sets up connections "
        "before it is ready, one after the other. It meets the others with its first requests.",
    )
    headroom: float = Field(
        0.25,
        ge=0,
        description="Spare workers, times the root of those that the load keeps busy: 1 busy "
        "worker has 0.25 spare, 4 have 0.5, 16 have 1. They carry bursts until more have started.",
    )
    kv_utilization: float = Field(
        0.9, gt=0, le=1, description="Part of decode's KV memory above which workers are added."
    )
    latency_margin: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Part of a promise that the measured percentile may take before workers are "
        "added.",
    )
    hold_band: float = Field(
        0.85,
        gt=0,
        lt=1,
        description="A worker leaves only if so much of what the others may carry is enough.",
    )
    down_after_s: float = Field(
        60.0,
        gt=0,
        description="Seconds for which one worker less has to be enough before it leaves. Twice "
        "as long, up to an hour, after one that was missed within an hour.",
    )
    stale_after_s: float = Field(
        30.0, gt=0, description="Age in seconds from which on a measurement counts as missing."
    )
    role_changes: bool = Field(
        default=True, description="Whether workers may change their pool instead of starting anew."
    )
    role_change_every_s: float = Field(
        60.0, ge=0, description="Fewest seconds between two changes of role."
    )
    zero_after_s: float = Field(
        0.0,
        ge=0,
        description="Seconds without any request after which pools whose minimum is 0 are stopped. "
        "0 = never.",
    )

    @model_validator(mode="after")
    def _bounds_hold(self) -> Self:
        for pool, least, most in (
            ("prefill", self.prefill_min_workers, self.prefill_max_workers),
            ("decode", self.decode_min_workers, self.decode_max_workers),
        ):
            if least > most:
                raise ValueError(
                    f"scaling.{pool}_min_workers is {least}; allowed: at most "
                    f"scaling.{pool}_max_workers, which is {most}"
                )
        return self

    @model_validator(mode="after")
    def _zero_is_meant(self) -> Self:
        if self.decode_min_workers == 0 and self.zero_after_s == 0:
            raise ValueError(
                "scaling.decode_min_workers is 0 and scaling.zero_after_s is 0; allowed: at least "
                "1 decode worker, or zero_after_s above 0"
            )
        return self

    def check_start(self, prefill: int, decode: int) -> None:
        """Refuses to begin outside the bounds. Raises ValueError that names the setting."""
        if self.mode == "manual":
            return
        for pool, workers, least, most in (
            ("prefill", prefill, self.prefill_min_workers, self.prefill_max_workers),
            ("decode", decode, self.decode_min_workers, self.decode_max_workers),
        ):
            if not least <= workers <= most:
                raise ValueError(
                    f"{pool}.workers is {workers}; allowed with scaling.mode auto: from "
                    f"scaling.{pool}_min_workers, which is {least}, to scaling.{pool}_max_workers, "
                    f"which is {most}"
                )

    def check_budget(self, prefill_gpus: float, decode_gpus: float) -> None:
        """Refuses a budget below the minimum. Raises ValueError that names the setting.

        Takes the GPUs of one worker of each pool.
        """
        least = self.prefill_min_workers * prefill_gpus + self.decode_min_workers * decode_gpus
        if self.gpu_budget and self.gpu_budget < least:
            raise ValueError(
                f"scaling.gpu_budget is {self.gpu_budget}; allowed: 0, or at least the "
                f"{least:g} GPUs of scaling.prefill_min_workers and scaling.decode_min_workers"
            )
