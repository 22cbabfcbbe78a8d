"""What each fact changes in the read tables.

Deltas touch none of them. A fact changes at most one row per key, and a batch's changes to one row
are merged, so that one statement writes them.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from domain.agent import AgentChanged, AgentCreated, AgentDeleted
from domain.archive import ArchiveDeleted, PassageDeleted, PassageInserted
from domain.block import BlockChanged, BlockCreated, BlockDeleted
from domain.conversation import (
    ConsolidationFinished,
    ConsolidationQueued,
    ConversationChanged,
    ConversationDeleted,
    ConversationStarted,
    MessageAppended,
    MessageQueued,
    ProposalSettled,
    WindowCompacted,
)
from domain.event import Recorded
from domain.run import (
    RunCalledBack,
    RunClaimed,
    RunFinished,
    RunHidden,
    RunQueued,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
)
from domain.streams import owner_of, system_message_id
from projections.columns import Scalar, columns_of, sortable
from projections.search_texts import said_in
from projections.search_words import terms_of
from projections.steps import begun, ended

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
        case RunQueued() | RunClaimed() | RunFinished() | RunHidden() | RunCalledBack():
            yield from _of_a_run(fact, at)
        case WindowCompacted() as event:
            yield _shown(event.summary_message_id, fact, fact.at)
            yield Patch("conversations", (fact.stream,), {"last_said_at": at})
        case ConsolidationQueued() | ConsolidationFinished() | ProposalSettled() as event:
            key = (fact.stream, event.consolidation_id)
            yield Patch("consolidations", key, _consolidation_values(fact, event, at))
        case StepStarted() as event:
            yield _shown(event.message_id, fact, event.said_at or fact.at)
            yield _located(event.step_id, fact)
            yield Patch("steps", (fact.stream, fact.version), begun(fact))
        case StepFinished() | StepSuperseded() as event:
            yield Patch("steps", (fact.stream, event.s), ended(event))
        case AgentCreated() | AgentChanged() | AgentDeleted() as event:
            yield Patch("agents", (fact.stream,), _agent_values(event, at))
        case BlockCreated() | BlockChanged() | BlockDeleted() as event:
            yield Patch("blocks", (fact.stream,), _block_values(event, at))
        case PassageInserted() | PassageDeleted() | ArchiveDeleted() as event:
            yield from _archived(fact, event, at)
        case _:
            return


def _of_a_run(fact: Recorded[Any], at: str) -> Iterator[Patch]:
    match fact.event:
        case RunQueued() as event:
            yield from _run_queued(fact, event, at)
        case RunClaimed() as event:
            values: dict[str, Scalar] = {
                "status": "running",
                "model": event.model,
                "context_window": event.context_window,
            }
            yield Patch("runs", (fact.stream, event.run_id), values)
            lease: dict[str, Scalar] = {"holder": event.node, "expires_at": LEASE_MS}
            yield Patch("leases", (fact.stream,), lease)
        case RunFinished() as event:
            yield from _run_finished(fact, event, at)
        case RunHidden() as event:
            yield Patch("runs", (fact.stream, event.run_id), {"hidden": 1})
        case RunCalledBack() as event:
            yield Patch("runs", (fact.stream, event.run_id), _callback_values(event, at))
        case _:
            pass


def _told(fact: Recorded[Any], at: str) -> Iterator[Patch]:
    """Index what a fact says, and where it can be looked up."""
    yield from _said(fact)
    match fact.event:
        case MessageQueued() as event:
            yield _located(event.message_id, fact)
        case MessageAppended() as event:
            yield _shown(event.message_id, fact, event.said_at or fact.at)
        case ToolFinished() as event:
            yield _shown(event.message_id, fact, event.said_at or fact.at)
            yield from _named_by_call(RETURN, event.tool_call_id, fact)
            if event.source == "system":  # it may come when its run is long over
                yield Patch("conversations", (fact.stream,), {"last_said_at": at})
        case StepPart(call=call) if call is not None:
            yield from _named_by_call(CALL, call.id, fact)
        case _:
            pass


def _located(identity: str, fact: Recorded[Any], at: str | None = None) -> Patch:
    # The same columns for all, so that one statement writes them.
    return Patch("locators", (fact.stream, identity), {"version": fact.version, "at": at})


def _shown(message_id: str, fact: Recorded[Any], at: datetime) -> Patch:
    """Locate what lists show as a message of this moment."""
    return _located(message_id, fact, sortable(at))


def _named_by_call(prefix: str, tool_call_id: str, fact: Recorded[Any]) -> Iterator[Patch]:
    """Locate a call or its return; of calls with the same id the newest is found."""
    if len(tool_call_id) <= CALL_ID_CHARS_MAX:
        yield _located(f"{prefix}{tool_call_id}", fact)


def _archived(
    fact: Recorded[Any], event: PassageInserted | PassageDeleted | ArchiveDeleted, at: str
) -> Iterator[Patch]:
    archive: dict[str, Scalar] = {"updated_at": at}
    if fact.version == 1:
        archive |= {"agent_id": owner_of(fact.stream), "created_at": at, "deleted": 0}
    match event:
        case PassageInserted():
            yield _passage(fact, event, at)
            yield from _said(fact)
        case PassageDeleted():
            key = (fact.stream, event.passage_id)
            yield Patch("passages", key, {"deleted_at": fact.version})
        case ArchiveDeleted():
            archive["deleted"] = 1
    yield Patch("archives", (fact.stream,), archive)


def _passage(fact: Recorded[Any], event: PassageInserted, at: str) -> Patch:
    created_at = at if event.created_at is None else sortable(event.created_at)
    values = columns_of(event, ("tags", "metadata"))
    values |= {"version": fact.version, "created_at": created_at}
    return Patch("passages", (fact.stream, event.passage_id), values)


def _said(fact: Recorded[Any]) -> Iterator[Patch]:
    said = said_in(fact)
    if said is None:
        return
    terms = terms_of(said.text)
    values: dict[str, Scalar] = {
        "place": said.place,
        "role": said.role,
        "kind": said.kind,
        "at": sortable(said.at),
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
    if event.isolated is not None:
        values |= columns_of(event, ["isolated"])
    if event.parent is not None:
        values |= {"parent_id": event.parent.conversation_id, "parent_at": event.parent.at}
    yield Patch("conversations", (fact.stream,), {**values, "last_said_at": at})
    yield _shown(system_message_id(fact.stream), fact, fact.at)


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
    yield Patch("conversations", (fact.stream,), {"last_message_at": at, "last_said_at": at})
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
    ended: dict[str, Scalar] = {
        "last_run_completion": at,
        "last_stop_reason": event.stop_reason,
        "last_said_at": at,
    }
    yield Patch("conversations", (fact.stream,), ended)
    if event.epoch is not None:
        yield Patch("leases", (fact.stream,), {"expires_at": 0})


def _consolidation_values(
    fact: Recorded[Any],
    event: ConsolidationQueued | ConsolidationFinished | ProposalSettled,
    at: str,
) -> dict[str, Scalar]:
    match event:
        case ConsolidationQueued():
            return {"queued_at": fact.version, "due": 1, "status": "running", "created_at": at}
        case ConsolidationFinished():
            ended: dict[str, Scalar] = {"due": 0, "status": event.outcome, "completed_at": at}
            return {**ended, "finished_at": fact.version}
        case ProposalSettled():
            status = "accepted" if event.accepted else "rejected"
            return {"settled_at": fact.version, "status": status}


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
    wanted = {"name", "description", "tags", "block_ids", "hidden"}
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
