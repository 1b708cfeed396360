"""YAML as people expect it: the core schema of YAML 1.2, duplicate keys refused.

PyYAML follows YAML 1.1, where `no` is false, `1:30` is ninety, `010` is eight and `1e3` is a
string. Reader and writer here share one table of scalars, so that what is written reads back the
same. Numbers with leading zeros, octal and hexadecimal ones are text: too easily misread.
"""

import re
from collections.abc import Hashable
from typing import Any, ClassVar

import yaml

_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        (
            r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
        ),
        "-+.0123456789",
    ),
)


_Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: _Resolvers = {}  # noqa: RUF012 (as its base class declares it)
    # Other tags, such as dates and sets, have no place in settings; None stands for "unknown tag".
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (None, *(f"tag:yaml.org,2002:{kind}" for kind in _KINDS))
    }

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,
    ) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice in one mapping", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: _Resolvers = {}  # noqa: RUF012 (as its base class declares it)

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Only this style writes a line break as an escape, and so stays on one line.
        style = None if "".join(data.splitlines()) == data else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
for _class in (_Loader, _Dumper):
    for _tag, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(
            _tag, re.compile(f"^(?:{_pattern})$"), [*_first, *([""] if "~" in _first else [])]
        )


def parse(text: str) -> object:
    """The one document in `text`; None if it is empty. Raises yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (_Loader is a SafeLoader)
    except ValueError as error:
        # An explicit tag, as in `!!int x`, promises what its text does not keep.
        raise yaml.YAMLError(str(error)) from error


def dump(value: object) -> str:
    """`value` on one line, such that `parse` returns it again."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, width=2**31, allow_unicode=True
    )
    # Only the break: other white space, such as U+00A0, may be what the text consists of.
    return text.removesuffix("...\n").strip("\n")
