"""The difference of two texts, line by line, as `diff -u` writes it.

The newer text follows from the older one and it: lines end with a newline and nothing else, so that no
text is changed by being taken apart. What it may cost is bounded: texts that have little in common are
told as one that is gone and one that has come.
"""

from collections.abc import Iterator, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

CONTEXT_LINES: Final = 3
# The work grows with the lines that differ times all lines, the memory with the square of the former.
EDITS_MAX: Final = 200
LINES_MAX: Final = 10_000
NO_NEWLINE: Final = "\\ No newline at end of file"

Mark: TypeAlias = Literal[" ", "-", "+"]


class Line(NamedTuple):
    """A line that is in both texts (" "), in the older one ("-"), or in the newer one ("+")."""

    mark: Mark
    text: str


def unified(old: str, new: str) -> str:
    """Write the difference of two texts as hunks without a header; "" if there is none."""
    if old == new:
        return ""
    return "\n".join(_hunks(list(compared(_lines(old), _lines(new))))) + "\n"


def _lines(text: str) -> list[str]:
    """Take a text apart, each line with its newline; the last may have none."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def compared(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    """Give the lines of both, those that are gone before those that have come."""
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    yield from (Line(" ", text) for text in old[:start])
    yield from _differing(old[start : len(old) - end], new[start : len(new) - end])
    yield from (Line(" ", text) for text in old[len(old) - end :])


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    """Count the lines with which both begin."""
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _differing(old: Sequence[str], new: Sequence[str]) -> list[Line]:
    trail = _trail(old, new) if len(old) + len(new) <= LINES_MAX else None
    if trail is None:
        return [*(Line("-", text) for text in old), *(Line("+", text) for text in new)]
    return _walked(old, new, trail)


def _trail(old: Sequence[str], new: Sequence[str]) -> list[dict[int, int]] | None:
    """Find the shortest way from one to the other, None if it has too many steps.

    It is Myers' search. A way is a walk over both from the beginning: a step in `old` is a line
    gone, one in `new` a line come, one in both costs nothing. `reached[k]` is how far in `old` ways
    of so many steps get that are `k` lines further in it than in `new`.
    """
    reached: dict[int, int] = {1: 0}
    trail: list[dict[int, int]] = []
    for steps in range(EDITS_MAX + 1):
        trail.append(dict(reached))
        for k in range(-steps, steps + 1, 2):
            at = _furthest(reached, k, steps)
            while at < len(old) and 0 <= at - k < len(new) and old[at] == new[at - k]:
                at += 1
            reached[k] = at
            if at >= len(old) and at - k >= len(new):
                return trail
    return None


def _furthest(reached: dict[int, int], k: int, steps: int) -> int:
    """Tell how far the last step gets on `k`: a line come from `k` + 1, or one gone from `k` - 1."""
    came = _came_from(reached, k, steps)
    return reached[came] if came > k else reached[came] + 1


def _came_from(reached: dict[int, int], k: int, steps: int) -> int:
    if k == -steps or (k != steps and reached[k - 1] < reached[k + 1]):
        return k + 1
    return k - 1


def _walked(old: Sequence[str], new: Sequence[str], trail: list[dict[int, int]]) -> list[Line]:
    """Walk the way back from its end, and tell it from its beginning."""
    lines: list[Line] = []
    x, y = len(old), len(new)
    for steps in range(len(trail) - 1, -1, -1):
        came = _came_from(trail[steps], x - y, steps)
        before_x = trail[steps][came]
        before_y = before_x - came
        while x > before_x and y > before_y:
            x, y = x - 1, y - 1
            lines.append(Line(" ", old[x]))
        if steps:
            lines.append(Line("+", new[before_y]) if x == before_x else Line("-", old[before_x]))
        x, y = before_x, before_y
    return lines[::-1]


# --- hunks ------------------------------------------------------------------------------------


def _hunks(lines: Sequence[Line]) -> Iterator[str]:
    """Write what differs, with some lines around it."""
    old = new = 1
    told = 0
    for first, last in _ranges(lines):
        old += sum(line.mark != "+" for line in lines[told:first])
        new += sum(line.mark != "-" for line in lines[told:first])
        hunk = lines[first:last]
        gone = sum(line.mark != "+" for line in hunk)
        come = sum(line.mark != "-" for line in hunk)
        yield f"@@ -{_span(old, gone)} +{_span(new, come)} @@"
        for line in hunk:
            yield from _written(line)
        old, new, told = old + gone, new + come, last


def _ranges(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """Give where hunks begin and end; what is near enough to share its context is one."""
    first = last = None
    for place, line in enumerate(lines):
        if line.mark == " ":
            continue
        if first is not None and last is not None and place - CONTEXT_LINES > last:
            yield first, last
            first = None
        first = max(0, place - CONTEXT_LINES) if first is None else first
        last = min(len(lines), place + 1 + CONTEXT_LINES)
    if first is not None and last is not None:
        yield first, last


def _span(start: int, count: int) -> str:
    """Name some lines by their first; of none, the line before them is named."""
    return f"{start if count else start - 1},{count}"


def _written(line: Line) -> Iterator[str]:
    yield line.mark + line.text.removesuffix("\n")
    if not line.text.endswith("\n"):
        yield NO_NEWLINE
