"""Forks: a conversation that goes on from another one's past, which it shares and does not copy."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import uuid4

from pydantic import Field
from starlette.requests import Request

from app.branching import parent_after
from app.log import utc_now
from app.mapper import revive
from app.memory.blocks import Isolated, compile_system, drop_copies, isolate
from app.memory.versions import block_when
from app.storage.lineages import parent_at
from app.storage.store import Store
from app.web.bodies import OFFSET_MAX, Body, ConversationAnswer, Cursor
from app.web.conversations import retrieve_conversation
from app.web.endpoint import MessageId, endpoint
from app.web.errors import Invalid
from app.web.lookups import conversation_at
from app.web.message_bodies import AnyConversationId
from app.web.requests import KEY_HEADER, checked_key
from app.web.services import Services
from app.web.stream import checked_cursor
from app.windows import marks_at
from domain.block import Block
from domain.conversation import (
    Conversation,
    ConversationSettings,
    Counts,
    Parent,
    StartConversation,
    System,
)
from domain.errors import Refused
from domain.streams import CONVERSATION, derived_id, id_of, is_default
from projections.system import MemoryBlock

NOW: Final = datetime.max.replace(tzinfo=UTC)


class ForkAt(Body):
    """Where to fork: after an offset, after a message, or after all there is.

    `agent_id` says whose conversation `default` is. It may all be in the query, or in the body.
    """

    agent_id: Cursor | None = None
    hidden: bool | None = None
    message_id: MessageId | None = None
    at: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None


async def fork_conversation(
    services: Services,
    conversation_id: AnyConversationId,
    query: ForkAt,
    body: ForkAt | None,
    request: Request,
) -> ConversationAnswer:
    """Begin a conversation that has this one's past, up to an offset, and a future of its own.

    Its system prompt is compiled now. Blocks that this one has to itself, it has copies of. An
    Idempotency-Key gives it its id, so that it begins once.
    """
    if body is not None:
        query = query.model_copy(update=body.model_dump(exclude_none=True))
    if query.at is not None and query.message_id is not None:
        raise Invalid("at, message_id: one of them says where to fork, not both")
    source, state = await conversation_at(services, conversation_id, query.agent_id)
    key = request.headers.get(KEY_HEADER)
    fork_id = id_of(CONVERSATION, uuid4()) if key is None else named(source, checked_key(key))
    if key is not None and (await services.execute.conversation(fork_id)).agent_id is not None:
        return await retrieve_conversation(services, fork_id)
    parent = await _parent(services, source, query)
    isolated = await _isolated(services, fork_id, parent)
    agent_id = state.agent_id or ""
    system = await _system(services, fork_id, agent_id, parent, isolated)
    settings = _settings(source, state, hidden=query.hidden)
    command = StartConversation(agent_id, system, settings, parent, isolated=isolated)
    await _begin(services, fork_id, command, parent)
    return await retrieve_conversation(services, fork_id)


async def _begin(
    services: Services, fork_id: str, command: StartConversation, parent: Parent
) -> None:
    """Begin a fork unless its key has; copies that it has no use for go. Raises Refused."""
    try:
        await services.execute.fork(fork_id, command, parent, "user")
    except Refused:
        # A key that is known: what it stands for has begun. Anything else is a refusal.
        begun = await services.execute.conversation(fork_id)
        await drop_copies(services.execute, _without(command.isolated, begun.isolated))
        if begun.agent_id is None:
            raise


def _without(some: Isolated, others: Isolated) -> Isolated:
    return {key: one for key, one in some.items() if others.get(key) != one}


def named(source: str, key: str) -> str:
    """Give the id of the fork of a conversation that a key stands for."""
    return derived_id(CONVERSATION, f"fork/{source}/{key}")


async def _parent(services: Services, source: str, query: ForkAt) -> Parent:
    """Say where the fork begins. Raises NotFound, Refused, or 409 for an offset past the head."""
    store = services.log.store
    at, message_id = query.at, query.message_id
    if message_id is not None:
        return await services.log.in_reader(lambda: parent_after(store, source, message_id))
    head = await checked_cursor(services, source, at or 0)
    return await services.log.in_reader(lambda: parent_at(store, source, at or head))


async def _isolated(services: Services, fork_id: str, parent: Parent) -> Isolated:
    """Copy the blocks that the parent has to itself, as they were when its offset was recorded.

    After its last offset that is as they are now. One that was gone by then is gone here as well.
    The offset is in the copies' ids: a request that is sent again after a crash may begin the fork
    further on, and must not find copies of what was before.
    """
    known = (await services.execute.conversation(parent.conversation_id)).isolated
    if not known:
        return {}
    store = services.log.store
    then = await services.log.in_reader(lambda: _blocks_then(store, parent, known))
    blocks = [
        MemoryBlock(block_id, one.version, one.settings)
        for block_id, one in then.items()
        if one.settings is not None and not one.deleted
    ]
    return {**known, **await isolate(services.execute, blocks, f"{fork_id}/{parent.at}")}


def _blocks_then(store: Store, parent: Parent, isolated: Isolated) -> Mapping[str, Block]:
    """Give the copies of a fork's parent by what they were made from. Blocks."""
    stream, at = parent.conversation_id, parent.at
    rows = store.read(stream, after=at - 1, limit=2)
    moment = revive(rows[0]).at if len(rows) > 1 else NOW
    return {block_id: block_when(store, copy, moment) for block_id, copy in isolated.items()}


async def _system(
    services: Services, fork_id: str, agent_id: str, parent: Parent, isolated: Isolated
) -> System:
    """Compile the prompt from memory as it is now; what had been evicted is counted on."""
    store, source = services.log.store, parent.conversation_id
    marks = await services.log.in_reader(lambda: marks_at(store, source, parent.at))
    counts = Counts(messages=marks.evicted_messages)
    return await compile_system(
        services.execute, agent_id, fork_id, utc_now(), counts, isolated=isolated
    )


def _settings(source: str, state: Conversation, *, hidden: bool | None) -> ConversationSettings:
    """Copy what the model is; an agent's own conversation has only the agent's."""
    copied: dict[str, Any] = {}
    if not is_default(source, state.agent_id or ""):
        known = state.settings
        names = ("model", "model_settings", "context_window_limit")
        copied = {name: value for name in names if (value := getattr(known, name)) is not None}
    if hidden is not None:
        copied["hidden"] = hidden
    return ConversationSettings(**copied)


ENDPOINTS: Final = [
    endpoint(
        "POST",
        "/v1/conversations/{conversation_id}/fork",
        fork_conversation,
        ConversationAnswer,
        tag="conversations",
        errors=(404, 409),
    ),
]
