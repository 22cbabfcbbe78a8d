"""What became of a conversation's window, asked of a running server: the audit's routes as commands."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
import typer

from app.commands import MISUSED, CommandFailed
from app.commands.audit_diff import MOVES, Source, diff_of
from app.commands.audit_lines import (
    compaction_lines,
    compactions_lines,
    diff_lines,
    restored_lines,
    why_lines,
    window_lines,
)
from app.commands.server import Conversation, conversation_on
from domain.streams import COMPACTION, is_id

PAGE: Final = 1000


def why(  # noqa: PLR0913 - what can be said to it
    conversation_id: str, query: str, url: str, limit: int, *, deleted: bool, raw: bool
) -> None:
    """Tell whether something was said, and what became of it. Raises CommandFailed."""
    with conversation_on(url, conversation_id, deleted=deleted) as conversation:
        _show(conversation.get("why", q=query, limit=limit), why_lines, raw=raw)


def window(conversation_id: str, at: int | None, url: str, *, deleted: bool, raw: bool) -> None:
    """Show the window at an offset, or the newest. Raises CommandFailed."""
    with conversation_on(url, conversation_id, deleted=deleted) as conversation:
        _show(_window(conversation, at), window_lines, raw=raw)


def compactions(
    conversation_id: str, compaction_id: str | None, url: str, *, deleted: bool, raw: bool
) -> None:
    """List the compactions, or show one in full. Raises CommandFailed."""
    with conversation_on(url, conversation_id, deleted=deleted) as conversation:
        if compaction_id is None:
            _show(conversation.get("compactions"), compactions_lines, raw=raw)
        else:
            _show(_compaction(conversation, compaction_id), compaction_lines, raw=raw)


def fork(
    conversation_id: str, at: int | None, message_id: str | None, url: str, *, raw: bool
) -> None:
    """Begin a conversation that has this one's past; print its id. Raises CommandFailed."""
    asked = {"at": at, "message_id": message_id}
    query = {name: value for name, value in asked.items() if value is not None}
    with conversation_on(url, conversation_id) as conversation:
        _show(conversation.post("fork", **query), lambda made: [made["id"]], raw=raw)


def undo(conversation_id: str, compaction_id: str, url: str, *, force: bool, raw: bool) -> None:
    """Bring back what a compaction evicted. Raises CommandFailed."""
    path = f"compactions/{_checked(compaction_id)}/undo"
    with conversation_on(url, conversation_id) as conversation:
        _show(conversation.post(path, force=force), restored_lines, raw=raw)


def redo(conversation_id: str, compaction_id: str, url: str, *, raw: bool) -> None:
    """Have an undone compaction hold again. Raises CommandFailed."""
    path = f"compactions/{_checked(compaction_id)}/redo"
    with conversation_on(url, conversation_id) as conversation:
        _show(conversation.post(path), restored_lines, raw=raw)


def diff(  # noqa: PLR0913 - what can be said to it
    conversation_id: str, one: int, other: int, url: str, *, deleted: bool, raw: bool
) -> None:
    """Compare the windows at two offsets. Raises CommandFailed."""
    before, after = sorted((one, other))
    with conversation_on(url, conversation_id, deleted=deleted) as conversation:
        source = Source(
            before=_window(conversation, before),
            after=_window(conversation, after),
            moves=_moves(conversation, before, after),
            compaction=lambda key: _compaction(conversation, key),
        )
        _show(diff_of(source), diff_lines, raw=raw)


# --- asking -----------------------------------------------------------------------------------


def _window(conversation: Conversation, at: int | None) -> Any:
    return conversation.get("window", **({} if at is None else {"at": at}))


def _compaction(conversation: Conversation, compaction_id: str) -> Any:
    return conversation.get(f"compactions/{_checked(compaction_id)}")


def _checked(compaction_id: str) -> str:
    if not is_id(COMPACTION, compaction_id):
        raise CommandFailed(
            f"{compaction_id!r} is not the id of a compaction: {COMPACTION}-<uuid4>.", MISUSED
        )
    return compaction_id


def _moves(conversation: Conversation, after: int, upto: int) -> list[Any]:
    """Read the facts between two offsets that changed what is in the window beside messages."""
    found: list[Any] = []
    while True:
        page = conversation.get(
            "events", after=after, before=upto + 1, types=",".join(MOVES), limit=PAGE
        )["events"]
        found += page
        if len(page) < PAGE:
            return found
        after = page[-1]["offset"]


# --- telling ----------------------------------------------------------------------------------


def _show(answer: Any, lines: Callable[[Any], Iterable[str]], *, raw: bool) -> None:
    if raw:
        typer.echo(escaped(orjson.dumps(answer).decode()))
    else:
        for line in lines(answer):
            typer.echo(line)


def escaped(json: str) -> str:
    """Spell what could steer a terminal as JSON's escapes; such signs are in strings only."""
    return "".join(one if one.isprintable() else _escape(one) for one in json)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
