"""How values are spelled in columns of the read tables."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypeAlias

from pydantic import BaseModel
from pydantic_core import to_json

Scalar: TypeAlias = str | int | None


def sortable(at: datetime) -> str:
    """Spell a moment so that text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def columns_of(source: BaseModel, names: Iterable[str]) -> dict[str, Scalar]:
    """Give fields as columns: flags as 0 or 1, lists and objects as JSON text."""
    return {name: _scalar(getattr(source, name)) for name in names}


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, str | int):
        return value
    return to_json(value).decode()
