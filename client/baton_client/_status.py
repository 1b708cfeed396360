"""google.rpc.Status with ErrorInfo and RetryInfo, read and written.

The message classes are built here, in a descriptor pool of their own: googleapis-common-protos is
not needed, and where it is loaded too the two do not meet. On the wire they are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

KEY = "grpc-status-details-bin"
DOMAIN = "baton"
_TYPE_URL = "type.googleapis.com/google.rpc."
_FIELD = descriptor_pb2.FieldDescriptorProto
# Name, type and label of each field, in the order of their numbers. An Any is two plain fields,
# and a map a list of pairs: so they travel.
_MESSAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "Any": (("type_url", "string"), ("value", "bytes")),
    "Pair": (("key", "string"), ("value", "string")),
    "Duration": (("seconds", "int64"), ("nanos", "int32")),
    "Status": (("code", "int32"), ("message", "string"), ("details", "Any*")),
    "ErrorInfo": (("reason", "string"), ("domain", "string"), ("metadata", "Pair*")),
    "RetryInfo": (("retry_delay", "Duration"),),
}


@dataclass(frozen=True, slots=True)
class Details:
    """What a failed call says beyond its status. `retry_after_s` None = no advice."""

    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def encode(code: int, text: str, details: Details) -> bytes:
    """The value of `grpc-status-details-bin`; `code` is the number of the gRPC status."""
    pairs = [_Pair(key=key, value=value) for key, value in details.metadata.items()]
    parts = {"ErrorInfo": _ErrorInfo(reason=details.reason, domain=DOMAIN, metadata=pairs)}
    if details.retry_after_s is not None:
        seconds, rest = divmod(details.retry_after_s, 1)
        delay = _Duration(seconds=int(seconds), nanos=int(rest * 1e9))
        parts["RetryInfo"] = _RetryInfo(retry_delay=delay)
    anys = [_Any(type_url=_TYPE_URL + n, value=m.SerializeToString()) for n, m in parts.items()]
    data: bytes = _Status(code=code, message=text, details=anys).SerializeToString()
    return data


def decode(data: bytes) -> Details:
    """What the bytes say; nothing where they cannot be read."""
    try:
        parts = {part.type_url: part.value for part in _Status.FromString(data).details}
        info = _ErrorInfo.FromString(parts.get(_TYPE_URL + "ErrorInfo", b""))
        retry = parts.get(_TYPE_URL + "RetryInfo")
        delay = None if retry is None else _RetryInfo.FromString(retry).retry_delay
    except message.DecodeError:
        return Details()
    metadata = {pair.key: pair.value for pair in info.metadata}
    seconds = None if delay is None else delay.seconds + delay.nanos / 1e9
    return Details(info.reason, metadata, seconds)


def _build() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(
        name="baton_client/status.proto", package="google.rpc", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        shape = file.message_type.add(name=name)
        for number, (field_name, kind) in enumerate(fields, start=1):
            shape.field.append(_field(field_name, number, kind))
    pool.AddSerializedFile(file.SerializeToString())
    found = {name: pool.FindMessageTypeByName(f"google.rpc.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(kind) for name, kind in found.items()}


def _field(name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
    base = kind.rstrip("*")
    made = _FIELD(name=name, number=number, label=label)
    if base in _MESSAGES:
        made.type, made.type_name = _FIELD.TYPE_MESSAGE, f".google.rpc.{base}"
    else:
        made.type = _FIELD.Type.Value(f"TYPE_{base.upper()}")
    return made


_CLASSES = _build()
_Any, _Pair, _Duration = _CLASSES["Any"], _CLASSES["Pair"], _CLASSES["Duration"]
_Status, _ErrorInfo, _RetryInfo = _CLASSES["Status"], _CLASSES["ErrorInfo"], _CLASSES["RetryInfo"]
