"""Conversations written fact by fact: what is said, what is compacted, undone, redone, rolled back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from hypothesis import strategies as st

from domain.compaction import CompactionSettings
from domain.conversation import (
    Attempt,
    CompactionAudit,
    Evicted,
    MessageAppended,
    MessageChanged,
    Try,
    WindowCompacted,
    WindowCompactionRedone,
    WindowCompactionStarted,
    WindowCompactionUndone,
    WindowRolledBack,
)
from domain.event import Event, Recorded
from domain.retention import Retention
from domain.run import CalledTool, Span, StepFinished, StepPart, StepStarted, ToolFinished
from domain.streams import COMPACTION, MESSAGE, STEP, derived_id
from projections.items import SummaryItem
from projections.window import Window, window_of
from tests.examples import BY, CONVERSATION_ID, MANIFEST, MODEL, OTID, RUN_ID, started

AT: Final = datetime(2026, 5, 3, 10, tzinfo=UTC)


def message_id_of(offset: int) -> str:
    """Name the message at an offset."""
    return derived_id(MESSAGE, f"{offset}")


def compaction_id_of(offset: int) -> str:
    """Name the compaction that is recorded at an offset."""
    return derived_id(COMPACTION, f"{offset}")


def recorded(events: Sequence[Event]) -> list[Recorded[Any]]:
    """Put facts at versions 1, 2, 3, …."""
    return [Recorded(CONVERSATION_ID, n, AT, BY, event) for n, event in enumerate(events, 1)]


@dataclass(slots=True)
class Talk:
    """A conversation that begins at offset 1. Each call gives the offset of what it adds."""

    events: list[Event] = field(default_factory=lambda: [started])

    @property
    def next(self) -> int:
        """The offset of what comes next."""
        return len(self.events) + 1

    @property
    def facts(self) -> list[Recorded[Any]]:
        """The facts so far."""
        return recorded(self.events)

    @property
    def window(self) -> Window:
        """The window as it is folded from all facts."""
        return window_of(self.facts)

    def add(self, event: Event) -> int:
        """Have something happen."""
        self.events.append(event)
        return len(self.events)

    def say(self, words: str, role: Literal["user", "system", "assistant"] = "user") -> int:
        """Say something."""
        said = MessageAppended(
            message_id=message_id_of(self.next),
            otid=OTID,
            role=role,
            content=words,
            run_id=RUN_ID,
        )
        return self.add(said)

    def reply(self, *words: str, calls: Sequence[CalledTool] = ()) -> int:
        """Have the model reply, in a step; give the step's place."""
        s = self.add(
            StepStarted(
                run_id=RUN_ID,
                epoch=1,
                step_id=derived_id(STEP, f"{self.next}"),
                index=0,
                attempt=1,
                message_id=message_id_of(self.next),
                model=MODEL,
                settings={},
                manifest=MANIFEST,
            )
        )
        for i, text in enumerate(words):
            self.add(StepPart(s=s, i=i, kind="text", text=text))
        for i, call in enumerate(calls, len(words)):
            self.add(StepPart(s=s, i=i, kind="call", call=call))
        self.add(StepFinished(s=s, outcome="ok", parts=len(words) + len(calls)))
        return s

    def returned(self, s: int, tool_call_id: str, words: str, name: str = "weather") -> int:
        """Give what a call of a step came to."""
        returned = ToolFinished(
            s=s,
            run_id=RUN_ID,
            step_id=derived_id(STEP, f"{s}"),
            tool_call_id=tool_call_id,
            message_id=message_id_of(self.next),
            name=name,
            status="ok",
            content=words,
            source="server",
        )
        return self.add(returned)

    def compact(self, first: int, last: int, summary: str, *, planned_at: int | None = None) -> str:
        """Evict what stands between two offsets, both included; give the compaction's id."""
        compaction_id = compaction_id_of(self.next + 1)
        at = len(self.events) if planned_at is None else planned_at
        self.add(
            WindowCompactionStarted(
                compaction_id=compaction_id,
                trigger="post_step_context_check",
                event_id=derived_id(MESSAGE, f"{compaction_id}/event"),
                tokens=7_300,
                context_window=8_000,
            )
        )
        self.add(
            WindowCompacted(
                compaction_id=compaction_id,
                summary_message_id=message_id_of(self.next),
                evicted=Evicted(ranges=(Span(first=first, last=last),)),
                before=last + 1,
                summary=summary,
                audit=audit(at),
            )
        )
        return compaction_id

    def undo(self, compaction_id: str) -> int:
        """Bring back what a compaction evicted."""
        return self.add(WindowCompactionUndone(compaction_id=compaction_id))

    def redo(self, compaction_id: str) -> int:
        """Have an undone compaction hold again."""
        return self.add(WindowCompactionRedone(compaction_id=compaction_id))

    def roll_back(self, *offsets: int, compaction_ids: Sequence[str] = ()) -> int:
        """Hide messages, and let compactions hold no more."""
        hidden = tuple(map(message_id_of, offsets))
        gone = tuple(compaction_ids)
        return self.add(
            WindowRolledBack(run_ids=(RUN_ID,), message_ids=hidden, compaction_ids=gone)
        )

    def pin(self, offset: int) -> int:
        """Pin a message."""
        return self.add(MessageChanged(message_id=message_id_of(offset), pinned=True))


def audit(planned_at: int) -> CompactionAudit:
    """Tell how a compaction was done."""
    tried = (Try(share=0.4, cut=2, tokens=6_000), Try(share=0.5, cut=3, tokens=4_000))
    return CompactionAudit(
        trigger="post_step_context_check",
        settings=CompactionSettings(prompt="Sum it up."),
        mode="sliding_window",
        model=MODEL,
        attempts=(Attempt(mode="sliding_window", goal=5_600, tries=tried, model=MODEL),),
        planned_at=planned_at,
        cutoff_before=2,
        cutoff_after=3,
        messages_before=6,
        messages_after=4,
        tokens_before=7_300,
        tokens_after=4_100,
        system_tokens=100,
        context_window=8_000,
        retention=Retention(score=0.5, kinds={}),
        duration_ms=5,
    )


# --- drawn ------------------------------------------------------------------------------------

WORDS: Final = ("tea", "Ana", "boat")
MOVES: Final = (
    *("say", "say", "reply", "compact", "compact", "compact"),
    *("undo", "redo", "back"),
)


@st.composite
def talks(draw: st.DrawFn) -> Talk:
    """Draw a conversation: things said, compactions, and what becomes of them."""
    talk = Talk()
    known: list[str] = []
    for _ in range(draw(st.integers(1, 20))):
        _move(draw, talk, known)
    return talk


def _move(draw: st.DrawFn, talk: Talk, known: list[str]) -> None:
    words = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)))
    marks = talk.window.marks
    match draw(st.sampled_from(MOVES)):
        case "say":
            talk.say(words)
        case "reply":
            talk.reply(words)
        case "compact":
            items = talk.window.items
            if items:
                first, last = sorted(draw(st.tuples(*[st.sampled_from(items)] * 2)), key=_offset)
                evicted = marks.evicted
                inside = range(first.offset, last.offset + 1)
                if all(offset not in evicted for offset in inside):
                    known.append(talk.compact(first.offset, last.offset, words))
        case "undo" if known:
            talk.undo(draw(st.sampled_from(known)))
        case "redo" if known:
            one = marks.compactions[draw(st.sampled_from(known))]
            gone = marks.evicted
            free = all(n not in gone for a, b in one.ranges for n in range(a, b + 1))
            if free and not one.active:
                talk.redo(one.fact.event.compaction_id)
        case "back":
            own = [item for item in talk.window.items if not isinstance(item, SummaryItem)]
            offsets = [item.offset for item in own[-2:]]
            gone = draw(st.lists(st.sampled_from(known), max_size=1)) if known else []
            talk.roll_back(*offsets, compaction_ids=gone)
        case _:
            pass


def _offset(item: Any) -> int:
    return item.offset
