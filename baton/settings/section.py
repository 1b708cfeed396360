"""What all groups of settings have in common: frozen, strict, nothing unknown."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """What all groups of settings have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
