"""A block as it was: its state at any version, and its versions with what led to them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from app.mapper import revive
from app.storage.store import VERSION_MAX, Store
from domain.block import Block, BlockEvent, evolve
from domain.conversation import ConversationStarted
from domain.event import Recorded
from domain.run import Cause, StepStarted, ToolStarted
from projections.block_history import BlockVersion, CauseAnswer, cause_of, version_of

READ_ROWS: Final = 256
# A page ends early once it has so much in it: values, and so diffs, may be large.
PAGE_CHARS_MAX: Final = 4 * 1024 * 1024


def block_at(store: Store, block_id: str, version: int) -> Block:
    """Fold a block up to a version. Blocks, so it runs in a reader's thread."""
    state = Block()
    for fact in _facts(store, block_id, 0, version):
        state = evolve(state, fact.event, fact.version)
    return state


def block_when(store: Store, block_id: str, moment: datetime) -> Block:
    """Fold a block as it was at a moment, at the earliest as it was made. Blocks."""
    state = Block()
    for fact in _facts(store, block_id, 0, VERSION_MAX):
        if fact.at > moment and state.version:
            break
        state = evolve(state, fact.event, fact.version)
    return state


def changed_by(store: Store, block_id: str, cause: Cause, after: int) -> int | None:
    """Give the version after `after` that a call made of a block, None if it made none. Blocks."""
    head = store.head(block_id)
    facts = _facts(store, block_id, after, head[0] if head else 0)
    return next((fact.version for fact in facts if cause_of(fact.event) == cause), None)


def stamps(store: Store, block_id: str, version: int) -> tuple[datetime, datetime]:
    """Tell when a block was made, and when a version of it was. Blocks."""
    first, then = (revive(store.read(block_id, after=n - 1, upto=n)[0]) for n in (1, version))
    return first.at, then.at


def versions(
    store: Store, block_id: str, first: int, last: int, *, newest_first: bool
) -> list[BlockVersion]:
    """Give the versions from `first` to `last`, or as many as make a page. Blocks."""
    state = block_at(store, block_id, first - 1)
    found: list[tuple[Block, Block, Recorded[BlockEvent]]] = []
    for fact in _facts(store, block_id, first - 1, last):
        after = evolve(state, fact.event, fact.version)
        found.append((state, after, fact))
        state = after
    page: list[BlockVersion] = []
    chars = 0
    for before, after, fact in reversed(found) if newest_first else found:
        if chars > PAGE_CHARS_MAX:
            break
        page.append(version_of(before, after, fact, _called(store, cause_of(fact.event))))
        chars += len(page[-1].diff)
    return page


def _facts(store: Store, block_id: str, after: int, upto: int) -> Iterator[Recorded[BlockEvent]]:
    """Read facts some at a time: a long history is not held as a whole."""
    while after < upto:
        rows = store.read(block_id, after=after, upto=upto, limit=READ_ROWS)
        if not rows:
            return
        yield from map(revive, rows)
        after = rows[-1].version


def _called(store: Store, cause: Cause | None) -> CauseAnswer | None:
    """Tell which call a cause is: its conversation has it."""
    if cause is None:
        return None
    known: dict[str, Any] = {"conversation_id": cause.stream, "offset": cause.offset}
    call = _event_at(store, cause.stream, cause.offset)
    if isinstance(call, ToolStarted):
        known |= {"run_id": call.run_id, "tool_call_id": call.tool_call_id, "tool": call.name}
        step = _event_at(store, cause.stream, call.s)
        if isinstance(step, StepStarted):
            known["step_id"] = step.step_id
    begun = _event_at(store, cause.stream, 1)
    if isinstance(begun, ConversationStarted):
        known["agent_id"] = begun.agent_id
    return CauseAnswer(**known)


def _event_at(store: Store, stream: str, offset: int) -> Any:
    rows = store.read(stream, after=offset - 1, upto=offset)
    return revive(rows[0]).event if rows else None
