"""Where a fork comes from, and one line on which its facts and those that it inherited stand.

A fork's stream has its own facts only. What it inherited lies before them: a *place* is an offset of
its own from 1 on; 0 is the offset at which it left its parent, -1 the one before, and so on back into
the parent's own parent. In a conversation that is no fork, places are offsets. Folds and decisions
know places; what is stored names an ancestor's offset by its stream.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from pydantic import Field

from domain.conversation.compaction_facts import Evicted, WindowCompacted
from domain.conversation.facts import Parent, WindowRolledBack
from domain.event import Recorded
from domain.run import (
    Span,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
    ToolStarted,
)
from domain.streams import VERSION_MAX

ANCESTORS_MAX: Final = 32

# In an answer, whose an offset is: it is there only for what a fork inherited.
Inherited: TypeAlias = Annotated[str | None, Field(exclude_if=lambda stream: stream is None)]


class Ancestor(NamedTuple):
    """A stream of which a fork has the offsets 1 to `at`; an offset and `shift` make the place."""

    stream: str
    at: int
    shift: int


class Stretch(NamedTuple):
    """A part of one stream: what is in it has `after < offset <= upto`."""

    stream: str
    after: int = 0
    upto: int = VERSION_MAX


@dataclass(frozen=True, slots=True)
class Lineage:
    """A conversation's ancestors, the oldest first; none if it is no fork."""

    ancestors: tuple[Ancestor, ...] = ()

    def forked(self, parent: Parent) -> "Lineage":
        """Give the lineage of a fork of the conversation that has this one."""
        older = (one._replace(shift=one.shift - parent.at) for one in self.ancestors)
        return Lineage((*older, Ancestor(parent.conversation_id, parent.at, -parent.at)))

    @property
    def beginning(self) -> int:
        """The place before the first of all."""
        return self.ancestors[0].shift if self.ancestors else 0

    # --- between places and offsets -------------------------------------------------------

    def place_of(self, stream: str | None, offset: int) -> int:
        """Give the place of an offset; every stream that is no ancestor is the fork's own."""
        return offset + self._shift(stream)

    def _shift(self, stream: str | None) -> int:
        for one in self.ancestors:
            if one.stream == stream:
                return one.shift
        return 0

    def named(self, place: int) -> tuple[str | None, int]:
        """Give the ancestor and its offset that a place is; no ancestor for what is its own."""
        if place <= 0:
            for one in reversed(self.ancestors):
                if place > one.shift:
                    return one.stream, place - one.shift
        return None, place

    def stretches(self, own: str, after: int, upto: int) -> Iterator[Stretch]:
        """Give what lies at `after < place <= upto`, in order; `own` is the fork's stream."""
        for one in self.ancestors:
            first, last = max(after, one.shift), min(upto, one.shift + one.at)
            if first < last:
                yield Stretch(one.stream, first - one.shift, last - one.shift)
        if max(after, 0) < upto:
            yield Stretch(own, max(after, 0), upto)

    def named_spans(self, spans: Iterable[Span]) -> tuple[Span, ...]:
        """Give spans of places as offsets: one that crosses an edge is parted there."""
        if not self.ancestors:
            return tuple(spans)
        return tuple(self._named_spans(spans))

    def _named_spans(self, spans: Iterable[Span]) -> Iterator[Span]:
        for span in spans:
            for stream, after, upto in self.stretches("", span.first - 1, span.last):
                parted = Span(first=after + 1, last=upto)
                yield parted.model_copy(update={"stream": stream}) if stream else parted

    def placed_spans(self, spans: Iterable[Span], shift: int = 0) -> tuple[Span, ...]:
        """Give spans of offsets as places; those that name no stream are shifted by `shift`."""
        return tuple(
            Span(first=span.first + by, last=span.last + by)
            for span in spans
            for by in (shift if span.stream is None else self._shift(span.stream),)
        )

    # --- facts ----------------------------------------------------------------------------

    def placed(self, fact: Recorded[Any]) -> Recorded[Any]:
        """Put a fact of the conversation's, or of an ancestor's, on the line of places."""
        if not self.ancestors:
            return fact
        shift = self._shift(fact.stream)
        event = self.placed_event(fact.event, shift)
        if shift == 0 and event is fact.event:
            return fact
        # Not `replace`, which takes twice the time: this is done for each fact of a fork's window.
        return Recorded(fact.stream, fact.version + shift, fact.at, fact.by, event)

    def placed_event(self, event: Any, shift: int = 0) -> Any:
        """Give what a fact says with places in it, where a fold looks at them."""
        match event:
            case StepDelta() | StepPart() | StepFinished() | StepSuperseded() if shift:
                return event.model_copy(update={"s": event.s + shift})
            case ToolStarted() | ToolFinished() if shift or event.stream is not None:
                by = shift if event.stream is None else self._shift(event.stream)
                return event.model_copy(update={"s": event.s + by, "stream": None})
            case WindowCompacted():
                return self._placed_compaction(event, shift)
            case WindowRolledBack(through=through) if shift and through is not None:
                return event.model_copy(update={"through": through + shift})
            case _:
                return event

    def _placed_compaction(self, event: WindowCompacted, shift: int) -> WindowCompacted:
        by = shift if event.before_stream is None else self._shift(event.before_stream)
        audit, ranges = event.audit, self.placed_spans(event.evicted.ranges, shift)
        return event.model_copy(
            update={
                "evicted": Evicted(ranges=ranges),
                "before": event.before + by,
                "before_stream": None,
                "audit": audit.model_copy(update={"planned_at": audit.planned_at + shift}),
            }
        )

    def stored(self, event: Any) -> Any:
        """Give what a decision says as it is stored: with an ancestor's offsets by its name."""
        match event:
            case ToolStarted() | ToolFinished() if event.s <= 0:
                stream, s = self.named(event.s)
                return event.model_copy(update={"s": s, "stream": stream})
            case StepStarted():
                return self._stored_step(event)
            case WindowCompacted():
                return self._stored_compaction(event)
            case _:
                return event

    def _stored_step(self, event: StepStarted) -> StepStarted:
        items = self.named_spans(event.manifest.items)
        manifest = event.manifest.model_copy(update={"items": items})
        return event.model_copy(update={"manifest": manifest})

    def _stored_compaction(self, event: WindowCompacted) -> WindowCompacted:
        changes: dict[str, Any] = {
            "evicted": Evicted(ranges=self.named_spans(event.evicted.ranges))
        }
        stream, before = self.named(event.before)
        if stream is not None:
            changes |= {"before": before, "before_stream": stream}
        return event.model_copy(update=changes)


def stored_facts(lineage: Lineage, events: Iterable[Any]) -> list[Any]:
    """Give facts as they are stored."""
    return [lineage.stored(event) for event in events] if lineage.ancestors else list(events)
