"""Compatibility of the public service: what is released is only added to.

`python client/proto/snapshot.py` writes what the service is today to released/v1.json; run it when
a version is released, and only then. The tests compare: nothing in that file may be gone or mean
something else.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

RELEASED = Path(__file__).parent / "released" / "v1.json"
Snapshot = dict[str, dict[str, Any]]


def today() -> Snapshot:
    """Every field, enum value and method of the service by its full name."""
    from baton_client.v1 import service_pb2

    file = descriptor_pb2.FileDescriptorProto.FromString(service_pb2.DESCRIPTOR.serialized_pb)
    return dict(sorted(entries(file)))


def entries(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts of one .proto file and what callers rely on of each."""
    for message in file.message_type:
        yield from fields(f"{file.package}.{message.name}", message)
    for enum in file.enum_type:
        for value in enum.value:
            yield f"{file.package}.{enum.name}.{value.name}", {"number": value.number}
    for service in file.service:
        for method in service.method:
            ends = {"request": method.input_type, "response": method.output_type}
            streams = [method.client_streaming, method.server_streaming]
            yield f"{file.package}.{service.name}.{method.name}", {**ends, "streams": streams}


def fields(
    name: str, message: descriptor_pb2.DescriptorProto
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of a message and of those inside it."""
    for field in message.field:
        kind = field.type_name or descriptor_pb2.FieldDescriptorProto.Type.Name(field.type)
        label = descriptor_pb2.FieldDescriptorProto.Label.Name(field.label)
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        yield (
            f"{name}.{field.name}",
            {"number": field.number, "type": kind, "label": label, "oneof": oneof},
        )
    for inner in message.nested_type:
        yield from fields(f"{name}.{inner.name}", inner)


def breaks(released: Snapshot, now: Snapshot) -> list[str]:
    """What callers of the released service would stumble over, one line each."""
    gone = [f"{name}: gone" for name in released if name not in now]
    both = released.keys() & now.keys()
    changed = [
        f"{name}: was {released[name]}, is {now[name]}"
        for name in both
        if released[name] != now[name]
    ]
    owners = {place(name, entry): name for name, entry in released.items() if "number" in entry}
    taken = [
        f"{name}: has the number of {owners[place(name, entry)]}"
        for name, entry in now.items()
        if owners.get(place(name, entry), name) != name
    ]
    return sorted([*gone, *changed, *taken])


def place(name: str, entry: dict[str, Any]) -> tuple[str, int | None]:
    """What a number must be unlike in: its message or enum, and the number."""
    return name.rpartition(".")[0], entry.get("number")


def main() -> int:
    """Write today's service as the released one, unless that would break callers."""
    now = today()
    released: Snapshot = json.loads(RELEASED.read_text()) if RELEASED.exists() else {}
    if lines := breaks(released, now):
        print("\n".join(lines), file=sys.stderr)
        return 1
    RELEASED.parent.mkdir(exist_ok=True)
    RELEASED.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {len(now)} entries to {RELEASED.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
