"""An archive: what an agent keeps outside its window, passage by passage, to search when needed.

The state holds no passage: how many there are, under which tags, and which ids came last. Whether an
older passage is there is the read table's to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, assert_never

from domain.errors import NotFound, Refused
from domain.event import Command, Decider, Event
from domain.run import Cause

TEXT_CHARS_MAX: Final = 100_000
PASSAGES_MAX: Final = 100_000
TAGS_MAX: Final = 64
TAG_CHARS_MAX: Final = 256
# Different ones in an archive.
TAGS_TOGETHER_MAX: Final = 1_000
# How many ids back a repeated request is known without a look at the read table.
RECENT_MAX: Final = 256


class PassageInserted(Event):
    """A text was put into the archive; it dates from `created_at`, from now if that is not set."""

    type: Literal["passage.inserted"] = "passage.inserted"
    passage_id: str
    text: str
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    cause: Cause | None = None


class PassageDeleted(Event):
    """A passage was taken out of the archive. `tags` are those that it had."""

    type: Literal["passage.deleted"] = "passage.deleted"
    passage_id: str
    tags: tuple[str, ...] = ()


class ArchiveDeleted(Event):
    """The archive ended with its agent; its history stays."""

    type: Literal["archive.deleted"] = "archive.deleted"


ArchiveEvent: TypeAlias = PassageInserted | PassageDeleted | ArchiveDeleted


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive as it stands. `tags` counts the passages under each.

    `inserted` and `removed` are the ids of passages that came and went last.
    """

    passages: int = 0
    tags: Mapping[str, int] = field(default_factory=dict[str, int])
    inserted: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    deleted: bool = False


def evolve(state: Archive, event: ArchiveEvent, version: int) -> Archive:  # noqa: ARG001 - a decider's
    """Give the state after `event`."""
    match event:
        case PassageInserted():
            return replace(
                state,
                passages=state.passages + 1,
                tags=_counted(state.tags, event.tags, 1),
                inserted=_recent(state.inserted, event.passage_id),
            )
        case PassageDeleted():
            return replace(
                state,
                passages=state.passages - 1,
                tags=_counted(state.tags, event.tags, -1),
                removed=_recent(state.removed, event.passage_id),
            )
        case ArchiveDeleted():
            return replace(state, deleted=True)
        case _:
            assert_never(event)


def _recent(ids: tuple[str, ...], newest: str) -> tuple[str, ...]:
    return (*ids[max(0, len(ids) - RECENT_MAX + 1) :], newest)


def _counted(counts: Mapping[str, int], tags: tuple[str, ...], change: int) -> Mapping[str, int]:
    if not tags:
        return counts
    now = {**counts, **{tag: counts.get(tag, 0) + change for tag in tags}}
    return {tag: count for tag, count in now.items() if count > 0} if change < 0 else now


@dataclass(frozen=True, slots=True)
class InsertPassage(Command):
    """Put a text into the archive, once for each `passage_id`; tags are taken once each."""

    passage_id: str
    text: str
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class InsertPassages(Command):
    """Put texts into the archive: all of them, or none."""

    passages: tuple[InsertPassage, ...]


@dataclass(frozen=True, slots=True)
class DeletePassage(Command):
    """Take a passage out, which was there a moment ago with these tags."""

    passage_id: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteArchive(Command):
    """Put an end to an archive, if it was ever begun."""


ArchiveCommand: TypeAlias = InsertPassage | InsertPassages | DeletePassage | DeleteArchive


def decide(state: Archive, command: ArchiveCommand) -> list[ArchiveEvent]:
    """Answer a command with facts. Raises NotFound or Refused."""
    match command:
        case InsertPassage():
            return _insert(state, command)
        case InsertPassages(passages=passages):
            return _insert_all(state, passages)
        case DeletePassage():
            return _delete(state, command)
        case DeleteArchive():
            begun = state.inserted and not state.deleted
            return [ArchiveDeleted()] if begun else []
        case _:
            assert_never(command)


def _insert(state: Archive, command: InsertPassage) -> list[ArchiveEvent]:
    if state.deleted:
        raise NotFound("Archive", "")
    if command.passage_id in state.inserted:
        return []
    tags = tuple(dict.fromkeys(command.tags))
    _check_text(command.text)
    _check_tags(state, tags)
    if state.passages >= PASSAGES_MAX:
        raise Refused(f"The archive holds {PASSAGES_MAX} passages; no more fit in.")
    given: dict[str, Any] = {
        "tags": tags or None,
        "created_at": command.created_at,
        "metadata": command.metadata,
        "cause": command.cause,
    }
    kept = {name: value for name, value in given.items() if value is not None}
    return [PassageInserted(passage_id=command.passage_id, text=command.text, **kept)]


def _insert_all(state: Archive, passages: tuple[InsertPassage, ...]) -> list[ArchiveEvent]:
    """Insert each after those before it, so that bounds hold for all of them together.

    A refusal says which it is about, unless there is one alone.
    """
    facts: list[ArchiveEvent] = []
    for number, passage in enumerate(passages):
        try:
            inserted = _insert(state, passage)
        except Refused as error:
            if len(passages) == 1:
                raise
            raise Refused(f"passages[{number}]: {error}") from error
        for fact in inserted:
            state = evolve(state, fact, 0)
        facts += inserted
    return facts


def _check_text(text: str) -> None:
    if not text.strip():
        raise Refused("A passage needs a text that is not blank.")
    if len(text) > TEXT_CHARS_MAX:
        raise Refused(f"A passage has at most {TEXT_CHARS_MAX} characters, not {len(text)}.")


def _check_tags(state: Archive, tags: tuple[str, ...]) -> None:
    if len(tags) > TAGS_MAX:
        raise Refused(f"A passage has at most {TAGS_MAX} tags, not {len(tags)}.")
    if any(not tag or len(tag) > TAG_CHARS_MAX for tag in tags):
        raise Refused(f"A tag has 1 to {TAG_CHARS_MAX} characters.")
    together = len(state.tags.keys() | tags)
    if tags and together > TAGS_TOGETHER_MAX:
        raise Refused(f"An archive has at most {TAGS_TOGETHER_MAX} tags, not {together}.")


def _delete(state: Archive, command: DeletePassage) -> list[ArchiveEvent]:
    if state.deleted:
        raise NotFound("Archive", "")
    if command.passage_id in state.removed or state.passages == 0:
        return []
    given: dict[str, Any] = {"tags": command.tags} if command.tags else {}
    return [PassageDeleted(passage_id=command.passage_id, **given)]


archive: Final[Decider[Archive, ArchiveCommand, ArchiveEvent]] = Decider(
    initial=Archive(), evolve=evolve, decide=decide
)
