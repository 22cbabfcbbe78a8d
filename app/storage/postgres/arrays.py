"""Columns as binary array parameters, packed in one go.

The library's own lists cost several times as much: every element passes through its adapters, in
Python. The format is the one that `array_recv` reads (src/backend/utils/adt/arrayfuncs.c): number
of dimensions, whether there are nulls, the element's type, then the length and lower bound of the
one dimension, then each element behind its length, which is -1 for a null.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Final

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER: Final = struct.Struct("!iiIii").pack
_LENGTH: Final = struct.Struct("!i").pack
_NULL: Final = _LENGTH(-1)
_BIGINT_NULL: Final = struct.Struct("!i").pack(-1)
_BIGINT: Final = struct.Struct("!iq").pack
_BYTEA_OID, _BIGINT_OID, _TEXT_OID = 17, 20, 25


class Array:
    """A packed array."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes) -> None:
        self.packed = packed


class TextArray(Array):
    """A `text[]`."""


class BigintArray(Array):
    """A `bigint[]`."""


class ByteaArray(Array):
    """A `bytea[]`."""


def texts(items: Sequence[str | None]) -> TextArray:
    """Pack strings. Postgres has no NUL in a text: it is stored as U+FFFD."""
    return TextArray(_packed(_TEXT_OID, [None if one is None else encoded(one) for one in items]))


def bigints(items: Sequence[int | None]) -> BigintArray:
    """Pack whole numbers of up to 64 bits."""
    head = _HEADER(1, None in items, _BIGINT_OID, len(items), 1)
    if None not in items:
        body = struct.pack("!" + "iq" * len(items), *chain.from_iterable((8, one) for one in items))
        return BigintArray(head + body)
    parts = (_BIGINT_NULL if one is None else _BIGINT(8, one) for one in items)
    return BigintArray(head + b"".join(parts))


def byteas(items: Sequence[bytes]) -> ByteaArray:
    """Pack byte strings."""
    return ByteaArray(_packed(_BYTEA_OID, items))


def encoded(text: str) -> bytes:
    """Give a text as Postgres can hold it."""
    return text.encode().replace(b"\x00", "\ufffd".encode())


def _packed(oid: int, items: Sequence[bytes | None]) -> bytes:
    parts = [_HEADER(1, None in items, oid, len(items), 1)]
    for one in items:
        parts += (_NULL,) if one is None else (_LENGTH(len(one)), one)
    return b"".join(parts)


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer:
        """Give the bytes: they are ready."""
        return obj.packed


class _TextArrayDumper(_ArrayDumper):
    oid = 1009


class _BigintArrayDumper(_ArrayDumper):
    oid = 1016


class _ByteaArrayDumper(_ArrayDumper):
    oid = 1001


def register(context: AdaptContext) -> None:
    """Let a connection take packed arrays as parameters."""
    context.adapters.register_dumper(TextArray, _TextArrayDumper)
    context.adapters.register_dumper(BigintArray, _BigintArrayDumper)
    context.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
