"""What a compaction would do: which messages leave the window, and why the cut is where it is.

The sliding window's search is the original's, step by step (contract section 8.4): messages are
counted from the system message, which is 0, and sizes are those of the approximate counter.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate, pairwise
from math import ceil
from typing import Final

from domain.compaction import CompactionMode, CompactionTrigger
from domain.conversation import CompactionFailure, Evicted, Try
from domain.run import Span
from projections.cuts import Bonds, bound_by, broken_of, staying
from projections.items import Item, MessageItem, Stats, StepItem, SummaryItem
from projections.marks import Marks
from projections.sizes import size_of_system, sizes_of, tokens_of
from projections.window import Window

SHARE_STEP: Final = 0.10
# Shares are exact to so many digits, whatever they are multiplied with.
DIGITS: Final = 6
SLIDING: Final = frozenset({"sliding_window", "self_compact_sliding_window"})


@dataclass(frozen=True, slots=True)
class Plan:
    """A compaction that may be carried out on the window at `planned_at`.

    `prefix` counts the items, kept ones among them, that the summariser is shown. Sizes are
    estimates: of the whole window before, and of what stays of it, the summary not counted.
    """

    mode: CompactionMode
    planned_at: int
    evicted: tuple[Item, ...]
    kept: tuple[Item, ...]
    prefix: int
    before: int
    ranges: Evicted
    size_before: int
    size_kept: int
    system_size: int
    tokens_before: int
    goal: int | None = None
    tries: tuple[Try, ...] = ()

    def item_of(self, summary: str, at: datetime) -> SummaryItem:
        """Give a summary as it would stand in the window, before it has its ids."""
        offsets = [item.offset for item in self.evicted]
        trigger: CompactionTrigger = "post_step_context_check"
        tokens, messages = self.tokens_before, self.messages_before
        return SummaryItem(
            offset=self.planned_at + 1,
            message_id="",
            compaction_id="",
            run_id=None,
            before=self.before,
            summary=summary,
            at=at,
            hidden=len(offsets),
            first=min(offsets),
            last=max(offsets),
            stats=Stats(trigger, tokens, tokens, tokens, messages, self.messages_after),
        )

    @property
    def cutoff(self) -> int | None:
        """The offset of the first message that stays."""
        own = (item.offset for item in self.kept if not isinstance(item, SummaryItem))
        return next(own, None)

    def scaled(self, size: int) -> int:
        """Give a size in proportion to what the vendor reported of the window before."""
        return round(size * self.tokens_before / self.size_before) if self.size_before else size

    @property
    def messages_before(self) -> int:
        """How many messages the window has, the system message among them."""
        return 1 + len(self.evicted) + len(self.kept)

    @property
    def messages_after(self) -> int:
        """How many it will have, the system message and the summary among them."""
        return 2 + len(self.kept)


@dataclass(frozen=True, slots=True)
class NoPlan:
    """There is nothing to evict, or no safe way to do it."""

    reason: str
    broken: tuple[str, ...] = ()
    goal: int | None = None
    tries: tuple[Try, ...] = ()

    @property
    def failure(self) -> CompactionFailure:
        """The same as a fact has it."""
        return "unsafe_plan" if self.broken else "nothing_to_evict"

    @property
    def words(self) -> str:
        """The same for people."""
        return ": ".join((self.reason, *self.broken))


def plan_of(
    window: Window, bonds: Bonds, mode: CompactionMode, *, share: float, context_window: int
) -> Plan | NoPlan:
    """Plan a compaction; `share` is the sliding window's, `context_window` in tokens."""
    sizes = sizes_of(window)
    if mode not in SLIDING:
        return planned(window, bonds, mode, len(window.items), sizes)
    cut, goal, tries = search(window, share, context_window, sizes)
    if cut is None:
        return NoPlan("there is no place to cut that leaves enough room", (), goal, tries)
    return planned(window, bonds, mode, cut - 1, sizes, goal=goal, tries=tries)


def planned(  # noqa: PLR0913 - what a plan is made from
    window: Window,
    bonds: Bonds,
    mode: CompactionMode,
    prefix: int,
    sizes: Sequence[int],
    *,
    goal: int | None = None,
    tries: tuple[Try, ...] = (),
) -> Plan | NoPlan:
    """Plan to evict the first `prefix` items, but for those that must stay; `sizes` are theirs."""
    items = window.items
    # Who read the state before the window may not know of the newest pins: the window does.
    pinned = bonds.pinned | window.marks.pinned
    bound = bound_by(items, replace(bonds, pinned=pinned))
    stay = staying(items, bound, (item.offset for item in items[prefix:]))
    evicted = tuple(item for item in items if item.offset not in stay)
    kept = tuple(item for item in items if item.offset in stay)
    if broken := broken_of(items, bound, {item.offset for item in evicted}):
        return NoPlan("the plan would break a rule", tuple(broken), goal, tries)
    if not any(not isinstance(item, SummaryItem) for item in evicted):
        return NoPlan("nothing but what must stay is in the window", (), goal, tries)
    system = size_of_system(window.system)
    staying_sizes = (n for item, n in zip(items, sizes, strict=True) if item.offset in stay)
    return Plan(
        mode=mode,
        planned_at=window.at,
        evicted=evicted,
        kept=kept,
        prefix=prefix,
        before=min((*map(_stands_at, kept), *window.open_steps), default=window.at + 1),
        ranges=Evicted(ranges=ranges_of(items, evicted, window.marks)),
        size_before=system + sum(sizes),
        size_kept=system + sum(staying_sizes),
        system_size=system,
        tokens_before=tokens_of(window, sizes).total,
        goal=goal,
        tries=tries,
    )


def _stands_at(item: Item) -> int:
    return item.before if isinstance(item, SummaryItem) else item.offset


def ranges_of(items: Sequence[Item], evicted: Sequence[Item], marks: Marks) -> tuple[Span, ...]:
    """Give the evicted items as few ranges of offsets, in which nothing else stood.

    A range goes on to the next item, so that nobody needs to read what is between them. What may
    come back by itself parts it in two: what was evicted before, and a summary, even one that does
    not hold now.
    """
    leaving = {item.offset for item in evicted}
    inside, seams = _inside_replies(items), _seams(marks)
    offsets = sorted(item.offset for item in items)
    spans: list[Span] = []
    before_leaves = False
    for offset, following in pairwise([*offsets, None]):
        if offset in leaving:
            last = offset
            if following is not None and (before_leaves or offset not in inside):
                last = min([following, *seams[bisect_right(seams, offset) :][:1]]) - 1
            _extend(spans, Span(first=offset, last=last), joined=before_leaves)
        before_leaves = offset in leaving
    return tuple(spans)


def _seams(marks: Marks) -> list[int]:
    """Give the offsets at which something may come back by itself."""
    known = marks.compactions.values()
    evicted = (first for one in known for first, _ in one.ranges)
    return sorted({*evicted, *(one.fact.version for one in known)})


def _inside_replies(items: Sequence[Item]) -> set[int]:
    """Name the summaries that were recorded in the middle of a reply: its parts are around them."""
    replies = [(item.offset, item.ended) for item in items if isinstance(item, StepItem)]
    return {
        item.offset
        for item in items
        if isinstance(item, SummaryItem)
        and any(begun < item.offset < ended for begun, ended in replies)
    }


def _extend(spans: list[Span], span: Span, *, joined: bool) -> None:
    """Add a range, or make the last one longer if nothing is between them."""
    if joined and spans[-1].last == span.first - 1:
        spans[-1] = Span(first=spans[-1].first, last=span.last)
    else:
        spans.append(span)


# --- the sliding window -----------------------------------------------------------------------


def search(
    window: Window, share: float, context_window: int, sizes: Sequence[int]
) -> tuple[int | None, int, tuple[Try, ...]]:
    """Look for a cut that leaves less than (1 - share) of the window; give it, the goal, the tries.

    The cut counts from the system message; None if there is none. A share is between 0 and 1.
    """
    if not 0 <= share <= 1:
        return None, context_window, ()
    items = window.items
    count = 1 + len(items)
    system = size_of_system(window.system)
    # upto[n] is the size of the first n items.
    upto = [0, *accumulate(sizes)]
    # Rounded before it is rounded up: below it is what is less than its exact value.
    goal = ceil(round((1 - share) * context_window, DIGITS))
    tries: list[Try] = []
    evicting = share
    while True:
        # Rounded, since 0.3 and seven tenths are to be 1, not 0.9999999999999999.
        evicting = round(evicting + SHARE_STEP, DIGITS)
        place = round(round(evicting * count, DIGITS))
        cut = _reply_at_or_before(items, min(place, count - 1))
        if cut is None:
            tries.append(Try(share=evicting))
        else:
            tokens = system + upto[-1] - upto[cut - 1]
            tries.append(Try(share=evicting, cut=cut, tokens=tokens))
            if tokens < goal:
                break
        if evicting >= 1:
            return None, goal, tuple(tries)
    if evicting >= 1 or cut >= _last_place(window):
        return None, goal, tuple(tries)
    return cut, goal, tuple(tries)


def _reply_at_or_before(items: Sequence[Item], place: int) -> int | None:
    """Walk down to a message of the assistant's; items are counted from 1."""
    for cut in range(place, 0, -1):
        item = items[cut - 1]
        if isinstance(item, StepItem) or (
            isinstance(item, MessageItem) and item.role == "assistant"
        ):
            return cut
    return None


def _last_place(window: Window) -> int:
    """Give the place that is too late to cut at: the last message's, or the approval's before."""
    return len(window.items) - (1 if window.pending else 0)
