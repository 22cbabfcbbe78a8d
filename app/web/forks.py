"""Forks: a conversation that goes on from another one's past, which it shares and does not copy."""

from typing import Annotated, Any, Final
from uuid import uuid4

from pydantic import Field
from starlette.requests import Request

from app.branching import parent_after
from app.lineages import parent_at
from app.log import utc_now
from app.memory import compile_system
from app.web.bodies import OFFSET_MAX, Body, ConversationAnswer, Cursor
from app.web.conversations import retrieve_conversation
from app.web.endpoint import MessageId, endpoint
from app.web.errors import Invalid
from app.web.lookups import conversation_at, living_conversation
from app.web.message_bodies import AnyConversationId
from app.web.requests import KEY_HEADER, checked_key
from app.web.services import Services
from app.web.stream import checked_cursor
from app.windows import marks_at
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

    Its system prompt is compiled now. An Idempotency-Key gives it its id, so that it begins once.
    """
    if body is not None:
        query = query.model_copy(update=body.model_dump(exclude_none=True))
    if query.at is not None and query.message_id is not None:
        raise Invalid("at, message_id: one of them says where to fork, not both")
    source, state = await conversation_at(services, conversation_id, query.agent_id)
    key = request.headers.get(KEY_HEADER)
    fork_id = id_of(CONVERSATION, uuid4()) if key is None else named(source, checked_key(key))
    parent = await _parent(services, source, query)
    agent_id = state.agent_id or ""
    system = await _system(services, fork_id, agent_id, parent)
    settings = _settings(source, state, hidden=query.hidden)
    command = StartConversation(agent_id, system, settings, parent)
    try:
        await services.execute.fork(fork_id, command, parent, "user")
    except Refused:
        # A key that is known: what it stands for has begun. Anything else is a refusal.
        if (await services.execute.conversation(fork_id)).agent_id is None:
            raise
        await living_conversation(services, fork_id)
    return await retrieve_conversation(services, fork_id)


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


async def _system(services: Services, fork_id: str, agent_id: str, parent: Parent) -> System:
    """Compile the prompt from memory as it is now; what had been evicted is counted on."""
    store, source = services.log.store, parent.conversation_id
    marks = await services.log.in_reader(lambda: marks_at(store, source, parent.at))
    counts = Counts() if marks.system is None else marks.system.system.counts
    return await compile_system(services.execute, agent_id, fork_id, utc_now(), counts)


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
