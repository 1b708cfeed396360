"""Which model is served, and under what name."""

from __future__ import annotations

from pathlib import Path

from baton.settings import Settings
from baton.settings.section import Section

DEMO_MODEL = Path(__file__).parent / "demo_model"
DEMO_NAME = "baton-demo"


def model_path(settings: Settings) -> Path:
    """The model's folder, absolute."""
    path = settings.model.path
    return DEMO_MODEL if path is None else Path(path).expanduser().resolve()


def served_name(settings: Settings) -> str:
    """The name that clients use."""
    if settings.model.served_name is not None:
        return settings.model.served_name
    return DEMO_NAME if settings.model.path is None else model_path(settings).name


def resolved(settings: Settings) -> Settings:
    """The same settings with paths and the model's name spelled out, for other processes."""
    model = settings.model.model_copy(
        update={"path": str(model_path(settings)), "served_name": served_name(settings)}
    )
    access, tls = _absolute(settings.access), _absolute(settings.tls)
    return settings.model_copy(update={"model": model, "access": access, "tls": tls})


def _absolute(section: Section) -> Section:
    """A group of settings with its files as every process finds them, whatever its folder."""
    paths = {name: getattr(section, name) for name in type(section).model_fields}
    found = {
        name: str(Path(path).expanduser().absolute())
        for name, path in paths.items()
        if name.endswith("_path") and path is not None
    }
    return section.model_copy(update=found)
