"""Facts to stored bytes and back: the envelope, the codec byte, the hash chain.

A row's `state` is the hash of the row before it (32 raw bytes, zeros at first), one codec byte,
and the body: `{"at":…,"by":…,"v":1,"data":{…}}`. The hash of a row is SHA-256 over its stream, a
newline, its version, a newline, its type, a newline and its `state`; so it covers the stored bytes
and can be checked without understanding them.
"""

import hashlib
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson
from pydantic_core import SchemaValidator, core_schema

from domain.event import Event, Recorded
from domain.events import REGISTRY
from projections.columns import sortable

GENESIS: Final = bytes(32)
HASH_BYTES: Final = 32
PLAIN: Final = b"\x00"
BODY_AT: Final = HASH_BYTES + len(PLAIN)


class Row(NamedTuple):
    """A fact as it is stored."""

    stream: str
    version: int
    topic: str
    state: bytes


class UnreadableFact(Exception):
    """A stored row that this version of Everlog does not understand."""

    def __init__(self, row: Row, reason: str) -> None:
        super().__init__(f"{row.stream}@{row.version} ({row.topic}) cannot be read: {reason}")


def data_of(event: Event) -> bytes:
    """Give a fact's JSON: what was set, defaults left out; `type` is stored beside it."""
    return event.__pydantic_serializer__.to_json(event, exclude_unset=True, exclude={"type"})


def state_of(prev: bytes, envelope: bytes, data: bytes) -> bytes:
    """Chain a fact to the one before it. `envelope` is from `envelope_of`."""
    return b"".join((prev, PLAIN, envelope, data, b"}"))


def envelope_of(at: datetime, by: str) -> bytes:
    """Give the part of the body that a batch has in common, up to where the data goes."""
    return orjson.dumps({"at": sortable(at), "by": by, "v": 1})[:-1] + b',"data":'


def hash_of(row: Row) -> bytes:
    """Give the 32 bytes that the next row of the stream begins with."""
    digest = hashlib.sha256(f"{row.stream}\n{row.version}\n{row.topic}\n".encode())
    digest.update(row.state)
    return digest.digest()


def prev_of(row: Row) -> bytes:
    """Give the hash that this row claims for the one before it."""
    return row.state[:HASH_BYTES]


def _reader(kind: type[Event]) -> SchemaValidator:
    """Make what parses and checks a body in one go: a window is read from thousands of them."""
    fields = {
        "at": core_schema.str_schema(),
        "by": core_schema.str_schema(),
        "data": kind.__pydantic_core_schema__,
    }
    named = {name: core_schema.typed_dict_field(schema) for name, schema in fields.items()}
    return SchemaValidator(core_schema.typed_dict_schema(named))


_READERS: Final = MappingProxyType({topic: _reader(kind) for topic, kind in REGISTRY.items()})


def revive(row: Row) -> Recorded[Any]:
    """Give a stored fact back. Raises UnreadableFact for an unknown type, codec or shape."""
    if row.state[HASH_BYTES:BODY_AT] != PLAIN:
        raise UnreadableFact(row, "unknown codec")
    reader = _READERS.get(row.topic)
    if reader is None:
        raise UnreadableFact(row, "unknown type")
    try:
        body = reader.validate_json(row.state[BODY_AT:])
        at = datetime.fromisoformat(body["at"])
        return Recorded(row.stream, row.version, at, body["by"], body["data"])
    except ValueError as error:
        raise UnreadableFact(row, str(error)) from error


def stamp_of(row: Row) -> datetime:
    """Give the moment at which a row was recorded. Raises ValueError for an unreadable one."""
    return datetime.fromisoformat(orjson.loads(row.state[BODY_AT:])["at"])


def event_json(row: Row) -> bytes:
    """Give a fact as the API shows it, spliced around the stored body without parsing it."""
    head = (
        f'{{"offset":{row.version},"type":"{row.topic}","id":"{row.stream}@{row.version}",'
        f'"hash":"{hash_of(row).hex()}",'
    )
    return head.encode() + row.state[BODY_AT + 1 :]
