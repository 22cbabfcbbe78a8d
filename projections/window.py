"""The window: what the model would see at an offset, folded from the stream and from nothing else.

Items are appended messages, finished steps, their returns and the summaries of compactions; deltas,
waiting messages, superseded and failed steps are never in it. An item's place is the offset of its
fact, a step's that of `step.started`. What a compaction that holds has evicted, or a rollback has
hidden, is not there.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from domain.content import parts_of
from domain.conversation import (
    ConversationStarted,
    MessageAppended,
    WindowCompacted,
    WindowCompactionRedone,
    WindowCompactionUndone,
    WindowRolledBack,
)
from domain.event import Recorded
from domain.run import (
    CalledTool,
    RunFinished,
    Span,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
)
from projections.items import (
    Item,
    MessageItem,
    ReturnItem,
    StepItem,
    SummaryItem,
    SystemAt,
    place_of,
)
from projections.marks import Marks, Offsets, evolve_marks, marks_of

# The stored types of the facts that items are made of, marks aside.
FOLDED: Final = frozenset(
    {
        "message.appended",
        "step.started",
        "step.part",
        "step.finished",
        "step.superseded",
        "tool.finished",
        "run.finished",
    }
)


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step that is under way: it becomes an item when it finishes."""

    offset: int
    run_id: str
    message_id: str
    parts: tuple[StepPart, ...] = ()

    def with_part(self, part: StepPart) -> "OpenStep":
        """Give it with one more part."""
        return OpenStep(self.offset, self.run_id, self.message_id, (*self.parts, part))


@dataclass(frozen=True, slots=True)
class Window:
    """The window at offset `at`: the fold's state and its result in one.

    In a fork the offsets of items are places: those inherited are 0 and less.
    A `stale` one has to be folded anew: something came back that is not in it.
    """

    at: int = 0
    marks: Marks = field(default_factory=Marks)
    items: tuple[Item, ...] = ()
    open_steps: Mapping[int, OpenStep] = field(default_factory=lambda: MappingProxyType({}))
    stale: bool = False

    @property
    def system(self) -> SystemAt | None:
        """The system prompt in force."""
        return self.marks.system

    @property
    def cutoff(self) -> int | None:
        """The offset of the first item that is no summary, None while there is none."""
        own = (item.offset for item in self.items if not isinstance(item, SummaryItem))
        return next(own, None)

    @property
    def summary(self) -> SummaryItem | None:
        """The newest summary in it."""
        found = (item for item in self.items if isinstance(item, SummaryItem))
        return max(found, key=lambda item: item.offset, default=None)

    @property
    def pending(self) -> tuple[CalledTool, ...]:
        """The calls of the newest step that have no return."""
        returned: set[str] = set()
        for item in reversed(self.items):
            if isinstance(item, ReturnItem):
                returned.add(item.tool_call_id)
            elif isinstance(item, StepItem):
                calls = (part.call for part in item.parts if part.call is not None)
                open_calls = () if item.interrupted else calls
                return tuple(call for call in open_calls if call.id not in returned)
        return ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """The offsets within which every visible item is in the window."""
        if not self.items:
            return ()
        offsets = [item.offset for item in self.items]
        return (Span(first=min(offsets), last=max(offsets)),)


def window_of(facts: Iterable[Recorded[Any]]) -> Window:
    """Fold a conversation's facts, in order, from the first."""
    known = list(facts)
    return window_from(marks_of(known), known)


def window_from(marks: Marks, facts: Iterable[Recorded[Any]]) -> Window:
    """Fold facts under marks that are known already: those of what is evicted may be missing.

    A fork's are those that it inherited and its own, `placed` by its lineage.
    """
    folding = _Folding(Window(marks=marks))
    evicted = marks.evicted
    for fact in facts:
        folding.take(fact)
    folding.drop_inherited_steps()
    items = [item for item in folding.items if _is_visible(item, marks, evicted)]
    for summary in marks.summaries():
        insort(items, summary, key=place_of)
    return replace(folding.done(), items=tuple(items))


def _is_visible(item: Item, marks: Marks, evicted: Offsets) -> bool:
    return item.offset not in evicted and item.message_id not in marks.hidden


def evolve(window: Window, fact: Recorded[Any]) -> Window:
    """Give the window after `fact`. It may be stale: see `Window`."""
    return caught_up(window, (fact,))


def caught_up(window: Window, facts: Iterable[Recorded[Any]]) -> Window:
    """Give the window after `facts`, in order. It may be stale: see `Window`."""
    folding = _Folding(window)
    for fact in facts:
        folding.take(fact)
        folding.mark(fact)
    return folding.done()


class _Folding:
    """A window while facts are added to it: lists that grow, instead of tuples that are copied."""

    def __init__(self, window: Window) -> None:
        self.at = window.at
        self.marks = window.marks
        self.items = list(window.items)
        self.open_steps = dict(window.open_steps)
        self.stale = window.stale

    def done(self) -> Window:
        return Window(
            self.at, self.marks, tuple(self.items), MappingProxyType(self.open_steps), self.stale
        )

    def take(self, fact: Recorded[Any]) -> None:
        """Add what a fact puts in, and let go of steps that come to nothing."""
        self.at = max(self.at, fact.version)
        match fact.event:
            case MessageAppended() as event if event.role != "approval":
                self.items.append(_message(fact.version, event))
            case StepStarted() as event:
                opened = OpenStep(fact.version, event.run_id, event.message_id)
                self.open_steps[fact.version] = opened
            case StepPart() as event if event.s in self.open_steps:
                self.open_steps[event.s] = self.open_steps[event.s].with_part(event)
            case StepFinished() as event if event.s in self.open_steps:
                self._finished(self.open_steps.pop(event.s), event, fact.version)
            case ToolFinished() as event:
                self._returned(fact.version, event)
            case StepSuperseded() as event:
                self.open_steps.pop(event.s, None)
            case RunFinished() as event if self.open_steps:
                self._drop_steps(lambda step: step.run_id == event.run_id)
            case _:
                pass

    def mark(self, fact: Recorded[Any]) -> None:
        """Take out what a fact takes out. What one brings back is not to be had here."""
        self.marks = evolve_marks(self.marks, fact)
        match fact.event:
            case WindowCompacted() | WindowCompactionRedone():
                self._sift()
            case WindowRolledBack() as event:
                self.stale = self.stale or bool(event.compaction_ids)
                self._sift()
            case WindowCompactionUndone():
                self.stale = True
            case ConversationStarted():
                # A fork's: what its parent was about to say has not been said in it.
                self.open_steps.clear()
            case _:
                pass

    def _sift(self) -> None:
        evicted = self.marks.evicted
        kept: list[Item] = [
            item
            for item in self.items
            if not isinstance(item, SummaryItem) and _is_visible(item, self.marks, evicted)
        ]
        self.items = kept
        for summary in self.marks.summaries():
            insort(self.items, summary, key=place_of)

    def drop_inherited_steps(self) -> None:
        """Let go of steps that are under way in a fork's parent: they do not come to an end here."""
        self._drop_steps(lambda step: step.offset <= 0)

    def _drop_steps(self, gone: Callable[[OpenStep], bool]) -> None:
        for s in [s for s, step in self.open_steps.items() if gone(step)]:
            del self.open_steps[s]

    def _finished(self, step: OpenStep, event: StepFinished, version: int) -> None:
        if event.outcome == "failed" or not step.parts:
            return
        interrupted = event.outcome == "interrupted"
        item = StepItem(step.offset, step.message_id, step.parts, interrupted, event.usage, version)
        self._put(item)

    def _returned(self, offset: int, event: ToolFinished) -> None:
        """Put a return behind its step, in the order of the calls; one without its step is none."""
        step = next((item for item in reversed(self.items) if item.offset == event.s), None)
        if not isinstance(step, StepItem):
            return
        calls = [part.call.id for part in step.parts if part.call is not None]
        item = ReturnItem(
            offset,
            event.message_id,
            event.s,
            event.tool_call_id,
            event.name,
            event.status,
            parts_of(event.content),
            calls.index(event.tool_call_id),
        )
        self._put(item)

    def _put(self, item: Item) -> None:
        """Put an item in its place, which nearly always is the end."""
        if not self.items or place_of(self.items[-1]) <= place_of(item):
            self.items.append(item)
        else:
            insort(self.items, item, key=place_of)


def _message(offset: int, event: MessageAppended) -> MessageItem:
    role = "user" if event.role == "approval" else event.role
    return MessageItem(offset, event.message_id, role, parts_of(event.content or ""))
