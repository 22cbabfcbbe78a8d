"""Arguments of calls as models write them: read, or refused in words that a model can act on."""

from typing import Any

from app.tools import ToolFailed


def whole_number(  # noqa: PLR0913 - what is asked of a number
    arguments: dict[str, Any],
    name: str,
    least: int,
    most: int,
    *,
    default: int | None = None,
    bounds: str | None = None,
) -> int:
    """Give a number within bounds, told as `bounds` if they are not to be told in full.

    Raises ToolFailed, also for one that is missing and has no default.
    """
    value = arguments.get(name)
    if value is None and default is not None:
        return default
    # Some models write whole numbers with a point.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        told = f" from {least} to {most}" if bounds is None else bounds
        raise ToolFailed(f"{name}: a whole number{told} is needed")
    return value
