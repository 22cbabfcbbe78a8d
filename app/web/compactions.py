"""Compactions: have one done, see what it would do and what it did, undo it and redo it."""

import asyncio
from typing import Final

from app.compaction.compacting import Task, first_plan, worked_out
from app.compaction.outcomes import Done
from app.web.compaction_bodies import (
    Audited,
    CompactBody,
    CompactionAnswer,
    PreviewAnswer,
    PreviewBody,
    ReplayAnswer,
    ReplayBody,
    RestoredAnswer,
    UndoQuery,
)
from app.web.endpoint import AgentId, CompactionId, endpoint
from app.web.errors import NO_RETRY, ApiError
from app.web.lookups import DEFAULT, audited_stream, conversation_at
from app.web.message_bodies import AnyConversationId
from app.web.previews import preview_of
from app.web.services import Services
from app.web.stream import checked_cursor
from app.windows import marked_facts
from domain.conversation import RedoCompaction, UndoCompaction, WindowCompactionFailed
from domain.errors import NotFound
from domain.run import crowded_above
from projections.audit import (
    CompactionRow,
    CompactionShown,
    compaction_shown,
    failure_shown,
    history_of,
    inherited,
)
from projections.items import SummaryItem
from projections.marks import marks_of
from projections.sizes import tokens_of
from projections.window import Window

NOTHING: Final = "No in-context messages found for this conversation."
NOT_REDUCED: Final = (
    "Summarization failed to reduce the number of messages. You may not have enough messages to "
    "compact or need to use a different CompactionSettings (e.g. using `all` mode)."
)
# Failures that say that there is too little to compact, in the words of the original.
TOO_LITTLE: Final = frozenset({"nothing_to_evict", "not_smaller"})


async def compact_conversation(
    services: Services, conversation_id: AnyConversationId, body: CompactBody | None
) -> CompactionAnswer:
    """Compact a conversation's window now, with a summary in place of what leaves it."""
    asked = body or CompactBody()
    stream = await _stream_of(services, conversation_id, asked.agent_id)
    return await _compacted(services, stream, asked)


async def compact_agent_messages(
    services: Services, agent_id: AgentId, body: CompactBody | None
) -> CompactionAnswer:
    """Compact the window of an agent's own conversation."""
    stream = await _stream_of(services, agent_id, None)
    window = await services.windows.newest(stream)
    if window.summary is not None and all(isinstance(one, SummaryItem) for one in window.items):
        count = 1 + len(window.items)
        return CompactionAnswer(
            summary=window.summary.summary,
            num_messages_before=count,
            num_messages_after=count,
            compaction_id=window.summary.compaction_id,
        )
    return await _compacted(services, stream, body or CompactBody())


async def _stream_of(services: Services, conversation_id: str, agent_id: str | None) -> str:
    """Give the stream that a path means. Raises NotFound; 400 for an agent never spoken to."""
    try:
        stream, _ = await conversation_at(services, conversation_id, agent_id)
    except NotFound as error:
        if error.identity == DEFAULT:
            raise ApiError(400, NOTHING) from None
        raise
    return stream


async def _compacted(services: Services, stream: str, asked: CompactBody) -> CompactionAnswer:
    if not (await services.windows.newest(stream)).items:
        raise ApiError(400, NOTHING)
    return _answer(await services.compactor.compact(stream, asked.compaction_settings))


def _answer(done: Done) -> CompactionAnswer:
    if done.fact is None:
        raise _refused(done.failure)
    audit = done.fact.event.audit
    return CompactionAnswer(
        summary=done.fact.event.summary,
        num_messages_before=audit.messages_before,
        num_messages_after=audit.messages_after,
        compaction_id=done.compaction_id,
    )


def _refused(failure: WindowCompactionFailed | None) -> ApiError:
    """Say why a compaction came to nothing; the window is as it was."""
    if failure is None or failure.reason in TOO_LITTLE:
        return ApiError(400, NOT_REDUCED)
    status = 409 if failure.reason in ("overtaken", "cancelled", "lost") else 400
    detail = f": {failure.detail}" if failure.detail else ""
    return ApiError(status, f"The window was not compacted ({failure.reason}){detail}")


# --- the history ------------------------------------------------------------------------------


async def list_compactions(
    services: Services, conversation_id: AnyConversationId, query: Audited
) -> list[CompactionRow]:
    """List a conversation's compactions, also those that failed or were undone, oldest first."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    return history_of(await marked_facts(services.log, stream))


async def show_compaction(
    services: Services,
    conversation_id: AnyConversationId,
    compaction_id: CompactionId,
    query: Audited,
) -> CompactionShown:
    """Give a compaction in full: what left, what stayed, the summary, what it kept and lost."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    return await _shown(services, stream, compaction_id)


async def _shown(services: Services, stream: str, compaction_id: str) -> CompactionShown:
    facts = await marked_facts(services.log, stream)
    marks = marks_of(facts)
    compaction = marks.compactions.get(compaction_id)
    if compaction is not None and compaction.fact.stream != stream:
        there = await _shown(services, compaction.fact.stream, compaction_id)
        return inherited(there, compaction, marks)
    if compaction is not None:
        planned_at = compaction.fact.event.audit.planned_at
        return compaction_shown(compaction, await services.windows.at(stream, planned_at))
    row = next((one for one in history_of(facts) if one.compaction_id == compaction_id), None)
    if row is None:
        raise NotFound("Compaction", compaction_id)
    failed = (one.event for one in facts if isinstance(one.event, WindowCompactionFailed))
    attempts = (one.attempts for one in failed if one.compaction_id == compaction_id)
    return failure_shown(row, next(attempts, ()))


# --- back and forth ---------------------------------------------------------------------------


async def undo_compaction(
    services: Services,
    conversation_id: AnyConversationId,
    compaction_id: CompactionId,
    query: UndoQuery,
) -> RestoredAnswer:
    """Bring back what a compaction evicted, as if it had never been."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=False)
    state = await services.execute.conversation(stream)
    known = state.window.compactions.get(compaction_id)
    if known is not None and known.active and not query.force:
        await _check_room(services, stream, await services.windows.without(stream, compaction_id))
    await services.execute(stream, UndoCompaction(compaction_id), "user")
    return await _restored(services, stream, compaction_id)


async def redo_compaction(
    services: Services,
    conversation_id: AnyConversationId,
    compaction_id: CompactionId,
    query: UndoQuery,
) -> RestoredAnswer:
    """Have a compaction that was undone hold again."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=False)
    shown = await _shown(services, stream, compaction_id)
    message_ids = tuple(one.message_id for one in shown.evicted)
    await services.execute(stream, RedoCompaction(compaction_id, message_ids), "user")
    return await _restored(services, stream, compaction_id)


async def _check_room(services: Services, stream: str, restored: Window) -> None:
    """Refuse to make a window larger than runs can go on in. Raises 409 with the numbers."""
    limit = crowded_above(await services.compactor.context_window(stream))
    tokens = await services.compactor.size_of(stream, restored)
    if limit and tokens > limit:
        raise ApiError(
            409,
            f"The window would hold {tokens} tokens, more than the {limit} that runs can go on "
            "in; force=true does it all the same.",
            headers=NO_RETRY,
            tokens=tokens,
            limit=limit,
        )


async def _restored(services: Services, stream: str, compaction_id: str) -> RestoredAnswer:
    window = await services.windows.newest(stream)
    found = window.marks.compactions.get(compaction_id)
    return RestoredAnswer(
        compaction_id=compaction_id,
        active=found is not None and found.active,
        at=window.at,
        messages=1 + len(window.items),
        tokens=tokens_of(window).total,
    )


# --- what would be ----------------------------------------------------------------------------


async def preview_compaction(
    services: Services,
    conversation_id: AnyConversationId,
    query: Audited,
    body: PreviewBody | None,
) -> PreviewAnswer:
    """Tell what a compaction would do, with its summary if asked; nothing is recorded."""
    asked = body or PreviewBody()
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    if asked.at is not None:
        await checked_cursor(services, stream, asked.at)
    task = await services.compactor.task(stream, asked.compaction_settings, asked.at)
    return await _previewed(services, task, summarize=asked.summarize)


async def replay_compaction(
    services: Services,
    conversation_id: AnyConversationId,
    compaction_id: CompactionId,
    query: Audited,
    body: ReplayBody | None,
) -> ReplayAnswer:
    """Do a recorded compaction again with other settings, side by side; nothing is recorded."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    recorded = await _shown(services, stream, compaction_id)
    if recorded.settings is None or recorded.planned_at is None:
        words = f"{compaction_id} was never carried out; preview it instead."
        raise ApiError(409, words, headers=NO_RETRY)
    # An inherited one is done again where it was done.
    task = await services.compactor.task(
        recorded.stream or stream,
        (body or ReplayBody()).compaction_settings,
        recorded.planned_at,
        base=recorded.settings,
        context_window=recorded.context_window,
    )
    replayed = await _previewed(services, task, summarize=True)
    place_of = task.window.marks.lineage.place_of
    before = {place_of(one.stream, one.offset) for one in recorded.evicted}
    now = {place_of(one.stream, one.offset) for one in replayed.evicted}
    return ReplayAnswer(
        recorded=recorded,
        replayed=replayed,
        evicted_only_as_recorded=sorted(before - now),
        evicted_only_as_replayed=sorted(now - before),
    )


async def _previewed(services: Services, task: Task, *, summarize: bool) -> PreviewAnswer:
    if summarize:
        worked = await worked_out(task, services.compactor.summariser)
    else:
        worked = await asyncio.to_thread(first_plan, task)
    return preview_of(task, worked)


CONVERSATION: Final = "/v1/conversations/{conversation_id}"
MANY: Final = f"{CONVERSATION}/compactions"
ONE: Final = f"{MANY}/{{compaction_id}}"
ENDPOINTS: Final = [
    endpoint(
        "POST",
        f"{CONVERSATION}/compact",
        compact_conversation,
        CompactionAnswer,
        tag="compactions",
        errors=(400, 404, 409),
    ),
    endpoint(
        "POST",
        "/v1/agents/{agent_id}/summarize",
        compact_agent_messages,
        CompactionAnswer,
        tag="compactions",
        errors=(400, 404, 409),
    ),
    endpoint("GET", MANY, list_compactions, list[CompactionRow], tag="compactions", errors=(404,)),
    endpoint(
        "POST",
        f"{MANY}/preview",
        preview_compaction,
        PreviewAnswer,
        tag="compactions",
        errors=(404, 409),
    ),
    endpoint("GET", ONE, show_compaction, CompactionShown, tag="compactions", errors=(404,)),
    endpoint(
        "POST",
        f"{ONE}/undo",
        undo_compaction,
        RestoredAnswer,
        tag="compactions",
        errors=(404, 409),
    ),
    endpoint(
        "POST",
        f"{ONE}/redo",
        redo_compaction,
        RestoredAnswer,
        tag="compactions",
        errors=(404, 409),
    ),
    endpoint(
        "POST",
        f"{ONE}/replay",
        replay_compaction,
        ReplayAnswer,
        tag="compactions",
        errors=(404, 409),
    ),
]
