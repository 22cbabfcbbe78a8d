"""How large a window is: what the vendor reported, and an estimate of what came after that."""

from collections.abc import Sequence

from domain.content import Text
from domain.event import Value
from domain.run import StepPart
from projections.items import Item, StepItem, SummaryItem, SystemAt
from projections.summary import packed
from projections.tokens import estimate
from projections.window import Window


class WindowTokens(Value):
    """Tokens by part, estimated; `total` starts from what the vendor reported, if it did.

    `reported` is the context of the step at `reported_at`, and what it said.
    """

    system: int
    summary: int
    messages: int
    total: int
    reported: int | None
    reported_at: int | None


def sizes_of(window: Window) -> tuple[int, ...]:
    """Estimate the tokens of each of its items."""
    return tuple(map(size_of, window.items))


def tokens_of(window: Window, sizes: Sequence[int] | None = None) -> WindowTokens:
    """Count a window: the newest reported usage is the truth, what came after it is estimated.

    A report holds while all is in the window that was in it then, and nothing else from before.
    `sizes` are those of its items, if they are known already.
    """
    system = size_of_system(window.system)
    sizes = sizes_of(window) if sizes is None else sizes
    summary = sum(
        sizes[place] for place, item in enumerate(window.items) if isinstance(item, SummaryItem)
    )
    found = _newest_report(window)
    place, reported = found if found is not None else (-1, None)
    after = sum(sizes[place + 1 :])
    return WindowTokens(
        system=system,
        summary=summary,
        messages=sum(sizes) - summary,
        total=after + (system if reported is None else reported),
        reported=reported,
        reported_at=None if found is None else window.items[place].offset,
    )


def _newest_report(window: Window) -> tuple[int, int] | None:
    """Give the place of the newest item with a report that still holds, and the report."""
    for place in reversed(range(len(window.items))):
        item = window.items[place]
        reported = _reported(item)
        if reported is not None and window.marks.same_as_at(item.offset):
            return place, reported
    return None


def _reported(item: Item) -> int | None:
    """Give the context that a vendor reported; no request is of no tokens, so 0 says nothing."""
    usage = item.usage if isinstance(item, StepItem) else None
    if usage is None or not usage.input_tokens:
        return None
    return usage.input_tokens + usage.output_tokens


def size_of_system(system: SystemAt | None) -> int:
    """Estimate the tokens of a system prompt."""
    return 0 if system is None else estimate(system.system.text)


def size_of(item: Item) -> int:
    """Estimate the tokens of an item."""
    if isinstance(item, SummaryItem):
        return estimate(packed(item))
    size = 0
    for part in item.parts:
        if isinstance(part, StepPart):
            size += estimate(part.text or "" if part.call is None else part.call.arguments)
        elif isinstance(part, Text):
            size += estimate(part.text)
    return size
