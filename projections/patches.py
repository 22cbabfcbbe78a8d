"""What each fact changes in the read tables.

Deltas touch none of them. A fact changes at most one row per key, and a batch's changes to one row
are merged, so that one statement writes them.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from domain.agent import AgentChanged, AgentCreated, AgentDeleted
from domain.block import BlockChanged, BlockCreated, BlockDeleted
from domain.conversation import (
    ConversationChanged,
    ConversationDeleted,
    ConversationStarted,
    MessageAppended,
    MessageQueued,
    WindowCompacted,
)
from domain.event import Recorded
from domain.run import (
    RunCalledBack,
    RunClaimed,
    RunFinished,
    RunHidden,
    RunQueued,
    StepPart,
    StepStarted,
    ToolFinished,
)
from domain.streams import system_message_id
from projections.columns import Scalar, columns_of, sortable
from projections.search_texts import said_in
from projections.search_words import terms_of

# How long a claim keeps other nodes away without being renewed.
LEASE_MS: Final = 10_000
# Vendors, and clients, choose the ids of calls: with these before them they are like none of ours.
# Longer ones are not located, as an index refuses very long keys.
CALL, RETURN = "call:", "return:"
CALL_ID_CHARS_MAX: Final = 256


class Patch(NamedTuple):
    """What a fact sets in one row."""

    table: str
    key: tuple[str | int, ...]
    values: dict[str, Scalar]


def merged(patches: Iterable[Patch]) -> dict[tuple[str, tuple[str | int, ...]], dict[str, Scalar]]:
    """Fold changes of the same row into one, later ones winning."""
    rows: dict[tuple[str, tuple[str | int, ...]], dict[str, Scalar]] = {}
    for patch in patches:
        rows.setdefault((patch.table, patch.key), {}).update(patch.values)
    return rows


def patches_of(fact: Recorded[Any]) -> Iterator[Patch]:  # noqa: C901 - one case a fact
    """Tell what a fact changes in the read tables."""
    at = sortable(fact.at)
    match fact.event:
        case ConversationStarted() as event:
            yield from _conversation_started(fact, event, at)
        case ConversationChanged() as event:
            yield _conversation_changed(fact.stream, event, at)
        case ConversationDeleted():
            yield Patch("conversations", (fact.stream,), {"deleted": 1, "updated_at": at})
        case MessageQueued() | MessageAppended() | ToolFinished() | StepPart():
            yield from _told(fact, at)
        case RunQueued() as event:
            yield from _run_queued(fact, event, at)
        case RunClaimed() as event:
            values: dict[str, Scalar] = {"status": "running", "model": event.model}
            yield Patch("runs", (fact.stream, event.run_id), values)
            lease: dict[str, Scalar] = {"holder": event.node, "expires_at": LEASE_MS}
            yield Patch("leases", (fact.stream,), lease)
        case RunFinished() as event:
            yield from _run_finished(fact, event, at)
        case RunHidden() as event:
            yield Patch("runs", (fact.stream, event.run_id), {"hidden": 1})
        case RunCalledBack() as event:
            yield Patch("runs", (fact.stream, event.run_id), _callback_values(event, at))
        case WindowCompacted() as event:
            yield _located(event.summary_message_id, fact)
        case StepStarted() as event:
            yield _located(event.message_id, fact)
            yield _located(event.step_id, fact)
        case AgentCreated() | AgentChanged() | AgentDeleted() as event:
            yield Patch("agents", (fact.stream,), _agent_values(event, at))
        case BlockCreated() | BlockChanged() | BlockDeleted() as event:
            yield Patch("blocks", (fact.stream,), _block_values(event, at))
        case _:
            return


def _told(fact: Recorded[Any], at: str) -> Iterator[Patch]:
    """Index what a fact says, and where it can be looked up."""
    yield from _said(fact, at)
    match fact.event:
        case MessageQueued() | MessageAppended() as event:
            yield _located(event.message_id, fact)
        case ToolFinished() as event:
            yield _located(event.message_id, fact)
            yield from _named_by_call(RETURN, event.tool_call_id, fact)
        case StepPart(call=call) if call is not None:
            yield from _named_by_call(CALL, call.id, fact)
        case _:
            pass


def _located(identity: str, fact: Recorded[Any]) -> Patch:
    return Patch("locators", (fact.stream, identity), {"version": fact.version})


def _named_by_call(prefix: str, tool_call_id: str, fact: Recorded[Any]) -> Iterator[Patch]:
    """Locate a call or its return; of calls with the same id the newest is found."""
    if len(tool_call_id) <= CALL_ID_CHARS_MAX:
        yield _located(f"{prefix}{tool_call_id}", fact)


def _said(fact: Recorded[Any], at: str) -> Iterator[Patch]:
    said = said_in(fact)
    if said is None:
        return
    terms = terms_of(said.text)
    values: dict[str, Scalar] = {
        "place": said.place,
        "role": said.role,
        "kind": said.kind,
        "at": at,
        "text": said.text,
        "terms": " ".join(terms),
        "words": len(terms),
    }
    yield Patch("texts", (fact.stream, fact.version), values)


def _conversation_started(
    fact: Recorded[Any], event: ConversationStarted, at: str
) -> Iterator[Patch]:
    values: dict[str, Scalar] = {
        "agent_id": event.agent_id,
        "created_at": at,
        "updated_at": at,
        "deleted": 0,
        "hidden": 0,
        "archived": 0,
    }
    values |= columns_of(event.settings, event.settings.model_fields_set)
    yield Patch("conversations", (fact.stream,), values)
    yield _located(system_message_id(fact.stream), fact)


def _conversation_changed(stream: str, event: ConversationChanged, at: str) -> Patch:
    values = columns_of(event, event.model_fields_set - {"type", "last_message_at"})
    if "archived" in values:
        values["archived_at"] = at if event.archived else None
    if event.last_message_at is not None:
        values["last_message_at"] = sortable(event.last_message_at)
    return Patch("conversations", (stream,), {**values, "updated_at": at})


def _run_queued(fact: Recorded[Any], event: RunQueued, at: str) -> Iterator[Patch]:
    values: dict[str, Scalar] = {
        "queued_at": fact.version,
        "status": "created",
        "background": int(event.request.background),
        "created_at": at,
        "request": event.request.model_dump_json(exclude_unset=True),
        "body_hash": event.body_hash,
        "hidden": 0,
    }
    if event.request.callback is not None:
        values |= {"callback_url": event.request.callback, "callback_due": 1}
    yield Patch("runs", (fact.stream, event.run_id), values)
    yield Patch("conversations", (fact.stream,), {"last_message_at": at})
    yield _located(event.run_id, fact)
    for key in event.keys:
        known: dict[str, Scalar] = {"run_id": event.run_id, "body_hash": event.body_hash}
        yield Patch("idempotency_keys", (fact.stream, key), known)


def _run_finished(fact: Recorded[Any], event: RunFinished, at: str) -> Iterator[Patch]:
    values: dict[str, Scalar] = {
        "status": event.status,
        "stop_reason": event.stop_reason,
        "completed_at": at,
        "finished_at": fact.version,
        "usage": event.usage.model_dump_json(exclude_unset=True),
        "error": None if event.error is None else event.error.model_dump_json(),
    }
    yield Patch("runs", (fact.stream, event.run_id), values)
    yield Patch("conversations", (fact.stream,), {"last_run_completion": at})
    if event.epoch is not None:
        yield Patch("leases", (fact.stream,), {"expires_at": 0})


def _callback_values(event: RunCalledBack, at: str) -> dict[str, Scalar]:
    return {
        "callback_due": 0,
        "callback_sent_at": at,
        "callback_status_code": event.status_code,
        "callback_error": event.error,
    }


def _agent_values(event: AgentCreated | AgentChanged | AgentDeleted, at: str) -> dict[str, Scalar]:
    if isinstance(event, AgentDeleted):
        return {"deleted": 1, "updated_at": at}
    wanted = {"name", "description", "tags", "hidden"}
    if isinstance(event, AgentChanged):
        return {**columns_of(event, event.model_fields_set & wanted), "updated_at": at}
    shown = columns_of(event.settings, wanted)
    return {**shown, "created_at": at, "updated_at": at, "deleted": 0}


def _block_values(event: BlockCreated | BlockChanged | BlockDeleted, at: str) -> dict[str, Scalar]:
    if isinstance(event, BlockDeleted):
        return {"deleted": 1, "updated_at": at}
    wanted = {"label", "value", "description", "tags", "read_only", "hidden"}
    if isinstance(event, BlockChanged):
        return {**columns_of(event, event.model_fields_set & wanted), "updated_at": at}
    shown = columns_of(event.settings, wanted)
    return {**shown, "created_at": at, "updated_at": at, "deleted": 0}
