"""A conversation's facts as a list of messages; a step's parts are one message and never split."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from domain.conversation import ConversationStarted, MessageAppended, WindowCompacted
from domain.event import Recorded
from domain.run import StepFinished, StepPart, StepStarted, ToolFinished
from projections.letta import (
    Step,
    input_message,
    step_messages,
    summary_as_user,
    system_message,
    tool_return,
)
from projections.marks import Marks, marks_of
from projections.wire import Message

# Facts that a list is made of: their stored types.
LISTED: Final = frozenset(
    {
        "conversation.started",
        "message.appended",
        "step.started",
        "step.part",
        "step.finished",
        "tool.finished",
        "window.compacted",
    }
)


class Listing:
    """Folds facts, in order, into messages: `(offset, its items)`, the offset naming its place.

    Messages with `hidden` ids, those of turns that were rolled back, are left out.
    """

    def __init__(self, hidden: Collection[str] = ()) -> None:
        self._hidden = hidden
        self._steps: dict[int, Step] = {}
        self._parts: dict[int, list[StepPart]] = {}

    def of(self, fact: Recorded[Any]) -> tuple[int, list[Message]] | None:
        """Give the message that this fact completes, None if it completes none."""
        found = self._of(fact)
        return None if found is None or found[1][0]["id"] in self._hidden else found

    def _of(self, fact: Recorded[Any]) -> tuple[int, list[Message]] | None:
        match fact.event:
            case ConversationStarted():
                return fact.version, [system_message(fact)]
            case MessageAppended():
                return fact.version, [input_message(fact)]
            case ToolFinished():
                return fact.version, [tool_return(fact)]
            case WindowCompacted() as event if event.summary:
                return fact.version, [summary_as_user(fact)]
            case StepStarted():
                self._steps[fact.version] = Step.of(fact)
            case StepPart() as event if event.s in self._steps:
                self._parts.setdefault(event.s, []).append(event)
            case StepFinished() as event if event.s in self._steps:
                return self._step(event)
            case _:
                pass
        return None

    def _step(self, event: StepFinished) -> tuple[int, list[Message]] | None:
        step, parts = self._steps.pop(event.s), self._parts.pop(event.s, [])
        items = [] if event.outcome == "failed" else step_messages(step, parts)
        return (event.s, [*items]) if items else None


def messages_of(
    facts: Iterable[Recorded[Any]], hidden: Collection[str] = ()
) -> Iterator[tuple[int, list[Message]]]:
    """List the messages of facts in order, but for those that are hidden."""
    listing = Listing(hidden)
    for fact in facts:
        message = listing.of(fact)
        if message is not None:
            yield message


def unlisted(facts: Iterable[Recorded[Any]]) -> frozenset[str]:
    """Name the messages that lists leave out: those rolled back, summaries that hold no more."""
    return left_out(marks_of(facts))


def left_out(marks: Marks) -> frozenset[str]:
    """Name the messages that lists leave out, but those before a reset, which are any number."""
    return marks.hidden.union(
        one.fact.event.summary_message_id for one in marks.compactions.values() if not one.active
    )
