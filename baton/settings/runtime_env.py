"""What the processes of the cluster find on the machines that Ray starts them on."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field

_KNOWN = frozenset(
    {
        *("conda", "config", "env_vars", "excludes", "image_uri", "pip", "py_executable"),
        *("py_modules", "uv", "working_dir"),
    }
)
_TEXTS = ("image_uri", "py_executable", "working_dir")


def _checked(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if unknown := sorted(given.keys() - _KNOWN):
        raise ValueError(
            f"cluster.runtime_env has {unknown[0]!r}; allowed: {', '.join(sorted(_KNOWN))}"
        )
    for name in _TEXTS:
        _demand(isinstance(given.get(name, ""), str), name, given.get(name), "text")
    variables = given.get("env_vars", {})
    _demand(isinstance(variables, Mapping), "env_vars", variables, "names and their values")
    for name, value in variables.items():
        both = isinstance(name, str) and isinstance(value, str)
        _demand(both, f"env_vars[{name!r}]", value, "text, in quotes where it looks like a number")
    return given


def _demand(right: bool, name: str, value: object, allowed: str) -> None:
    if not right:
        raise ValueError(f"cluster.runtime_env.{name} is {value!r}; allowed: {allowed}")


RuntimeEnv = Annotated[
    Mapping[str, Any],
    AfterValidator(_checked),
    Field(
        description="Ray's runtime environment of every process of the cluster, such as env_vars "
        "or working_dir; passed as it is."
    ),
]
"""A mapping as `ray.init(runtime_env=...)` takes it; unknown keys are refused."""
