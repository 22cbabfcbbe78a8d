"""A conversation's facts as a list of messages; a step's parts are one message and never split."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from domain.conversation import ConversationStarted, MessageAppended
from domain.event import Recorded
from domain.run import StepFinished, StepPart, StepStarted
from projections.letta import Message, Step, input_message, part_message, system_message

# Facts that a list is made of: their stored types.
LISTED: Final = frozenset(
    {"conversation.started", "message.appended", "step.started", "step.part", "step.finished"}
)


class Listing:
    """Folds facts, in order, into messages: `(offset, its items)`, the offset naming its place."""

    def __init__(self) -> None:
        self._steps: dict[int, Step] = {}
        self._parts: dict[int, list[StepPart]] = {}

    def of(self, fact: Recorded[Any]) -> tuple[int, list[Message]] | None:
        """Give the message that this fact completes, None if it completes none."""
        match fact.event:
            case ConversationStarted():
                return fact.version, [system_message(fact)]
            case MessageAppended() as event if event.role != "approval":
                return fact.version, [input_message(fact)]
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
        if event.outcome == "failed" or not parts:
            return None
        return event.s, [part_message(step, part) for part in parts]


def messages_of(facts: Iterable[Recorded[Any]]) -> Iterator[tuple[int, list[Message]]]:
    """List the messages of facts in order."""
    listing = Listing()
    for fact in facts:
        message = listing.of(fact)
        if message is not None:
            yield message
