"""What was said at a place of a conversation, read from the few facts that it consists of."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from app.storage.lineages import Chain
from domain.content import text_of
from domain.conversation import MessageAppended, MessageQueued
from domain.event import Recorded
from domain.run import (
    RunFinished,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
)
from projections.search_texts import TEXT_CHARS_MAX, Kind, said_in
from projections.why import Role, Thing

READ_AT_ONCE: Final = 100

# Why there is nothing at a place that an id leads to.
WAITING: Final = "{} waits for its run, or was taken back: it has not come into the window."
UNFINISHED: Final = "{} is a reply that came to nothing, so it was never in the window."
ANSWER: Final = "{} answers a request for approval: such messages are never in the window."
UNKNOWN: Final = "There is no {} in this conversation."


class Item(NamedTuple):
    """Something said, as the log has it."""

    thing: Thing
    role: Role
    kind: Kind
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """What was said in a conversation up to place `upto`. Every call blocks."""

    chain: Chain
    upto: int

    def fact(self, version: int) -> Recorded[Any]:
        """Give the fact at a place."""
        return self.chain.fact(self.chain.at(version))

    def at(self, place: int) -> Item | str:
        """Give the item of a place, or say why there is none."""
        fact = self.fact(place)
        match fact.event:
            case MessageAppended(role="user" | "system" | "assistant" as role) as event:
                thing = Thing(place, event.message_id, place)
                at = event.said_at or fact.at
                return Item(thing, role, "words", at, _cut(text_of(event.content or "")))
            case StepStarted():
                return self._reply(fact)
            case ToolFinished() as event:
                thing = Thing(place, event.message_id, place)
                return Item(thing, "tool", "return", event.said_at or fact.at, _words_of(fact))
            case MessageAppended():
                return ANSWER
            case MessageQueued():
                return WAITING
            case _:
                return UNKNOWN

    def _reply(self, started: Recorded[StepStarted]) -> Item | str:
        """Give a reply, whose parts are stored with its end."""
        place, event = started.version, started.event
        words: list[str] = []
        kind: Kind = "call"
        for fact in self._facts_after(place):
            match fact.event:
                case StepPart(s=s) if s == place:
                    words.append(_words_of(fact))
                    kind = "words" if fact.event.kind == "text" else kind
                case StepFinished(s=s, outcome=outcome) if s == place:
                    if outcome == "failed" or not words:
                        break
                    thing = Thing(place, event.message_id, fact.version)
                    text = _cut("\n".join(filter(None, words)))
                    return Item(thing, "assistant", kind, event.said_at or started.at, text)
                case StepSuperseded(s=s) if s == place:
                    break
                case RunFinished(run_id=run_id) if run_id == event.run_id:
                    break
                case _:
                    pass
        return UNFINISHED

    def _facts_after(self, place: int) -> Iterator[Recorded[Any]]:
        while rows := self.chain.read(after=place, upto=self.upto, limit=READ_AT_ONCE):
            yield from map(self.chain.fact, rows)
            place = self.chain.place(rows[-1])


def _words_of(fact: Recorded[Any]) -> str:
    said = said_in(fact)
    return "" if said is None else said.text


def _cut(text: str) -> str:
    return text[:TEXT_CHARS_MAX]
