"""What a model may do to a block's text: put something in, replace a part, write it anew."""

from dataclasses import dataclass
from typing import Final, TypeAlias, assert_never

from domain.errors import Refused

COUNTED_MAX: Final = 9


class Misplaced(Refused):
    """An edit that does not fit the text as it is now."""


@dataclass(frozen=True, slots=True)
class Insertion:
    """Put `text` in as lines of its own, after `after_line` lines; None is at the end."""

    text: str
    after_line: int | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """Put `new` where `old` is, which must occur exactly once."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Have `text` be all there is."""

    text: str


Edit: TypeAlias = Insertion | Replacement | Rewriting


def edited(value: str, edit: Edit) -> str:
    """Give a text after an edit. Raises Misplaced."""
    match edit:
        case Insertion():
            return _inserted(value, edit)
        case Replacement():
            _check_occurs_once(value, edit.old)
            return value.replace(edit.old, edit.new)
        case Rewriting():
            return edit.text
        case _:
            assert_never(edit)


def _inserted(value: str, edit: Insertion) -> str:
    # An empty text has no line, not an empty one: what comes first stands at its beginning.
    lines = value.split("\n") if value else []
    place = len(lines) if edit.after_line is None else edit.after_line
    if not 0 <= place <= len(lines):
        raise Misplaced(f"There is no line {place} to insert after: the text has {len(lines)}.")
    return "\n".join((*lines[:place], edit.text, *lines[place:]))


def _check_occurs_once(value: str, old: str) -> None:
    if not old:
        raise Misplaced("The text to replace is empty.")
    count = _occurrences(value, old)
    if count == 1:
        return
    if not count:
        raise Misplaced("The text to replace does not occur, letter by letter.")
    times = f"{count} times" if count <= COUNTED_MAX else f"more than {COUNTED_MAX} times"
    raise Misplaced(f"The text to replace occurs {times}; take a longer piece that occurs once.")


def _occurrences(value: str, old: str) -> int:
    """Count where `old` begins, overlapping ones too, no further than is told."""
    count, found = 0, value.find(old)
    while found >= 0 and count <= COUNTED_MAX:
        count, found = count + 1, value.find(old, found + 1)
    return count
