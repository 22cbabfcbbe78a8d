"""Conversations: create, list, retrieve, update, delete."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import uuid4

import orjson
from starlette.requests import Request

from app.log import utc_now
from app.memory.blocks import compile_system, drop_copies, isolate, memory_of
from app.providers.catalogue import MalformedHandle
from app.web.agent_answers import living_agent
from app.web.bodies import (
    Body,
    ConversationAnswer,
    CreateConversation,
    CreateConversationQuery,
    ListConversations,
    UpdateConversation,
)
from app.web.endpoint import ConversationId, endpoint
from app.web.errors import ApiError, Invalid
from app.web.lookups import living_conversation, window_ids
from app.web.requests import KEY_HEADER, checked_key
from app.web.services import Services
from domain.conversation import (
    ChangeConversation,
    ConversationChanged,
    ConversationSettings,
    ConversationStarted,
    Counts,
    DeleteConversation,
    StartConversation,
)
from domain.errors import NotFound, Refused
from domain.event import Recorded
from domain.streams import CONVERSATION, derived_id, id_of
from projections.columns import Scalar


async def create_conversation(
    services: Services,
    query: CreateConversationQuery,
    body: CreateConversation | None,
    request: Request,
) -> ConversationAnswer:
    """Begin a conversation with an agent; its system prompt is compiled now.

    An Idempotency-Key gives the conversation its id, so that the same one begins once.
    """
    asked = body or CreateConversation()
    _check_model(asked.model)
    key = request.headers.get(KEY_HEADER)
    conversation_id = id_of(CONVERSATION, uuid4()) if key is None else named(checked_key(key))
    if key is not None and (await services.execute.conversation(conversation_id)).agent_id:
        return await _begun_before(services, conversation_id, query.agent_id)
    isolated = await _isolated(services, query.agent_id, conversation_id, asked)
    system = await compile_system(
        services.execute, query.agent_id, conversation_id, utc_now(), Counts(), isolated=isolated
    )
    settings = ConversationSettings(**sent(asked, leave_out=("isolated_block_labels",)))
    command = StartConversation(query.agent_id, system, settings, isolated=isolated)
    try:
        facts = await services.execute(conversation_id, command, "user")
    except Refused:
        return await _begun_before(services, conversation_id, query.agent_id)
    return _begun(facts[0])


async def _isolated(
    services: Services, agent_id: str, conversation_id: str, asked: CreateConversation
) -> dict[str, str]:
    """Copy the blocks that the conversation is to have to itself. Raises 400 for a label."""
    labels = asked.isolated_block_labels
    if not labels:
        return {}
    blocks = await memory_of(services.execute, await living_agent(services, agent_id))
    known = sorted({one.settings.label for one in blocks})
    for label in labels:
        if label not in known:
            there = ", ".join(known) or "none"
            raise ApiError(
                400,
                f"INVALID_ARGUMENT: isolated_block_labels: the agent has no block {label!r}; "
                f"there are: {there}",
            )
    wanted = [one for one in blocks if one.settings.label in labels]
    return await isolate(services.execute, wanted, conversation_id)


def named(key: str) -> str:
    """Give the id of the conversation that a key stands for."""
    return derived_id(CONVERSATION, f"conversation/{key}")


async def _begun_before(
    services: Services, conversation_id: str, agent_id: str
) -> ConversationAnswer:
    """Give the conversation that a key began before. Raises 422 if it is another agent's."""
    state = await living_conversation(services, conversation_id)
    if state.agent_id != agent_id:
        raise Invalid("Idempotency-Key: it began a conversation of another agent")
    return await _row(services, conversation_id)


def _begun(fact: Recorded[ConversationStarted]) -> ConversationAnswer:
    event = fact.event
    return ConversationAnswer(
        id=fact.stream,
        agent_id=event.agent_id,
        created_at=fact.at,
        updated_at=fact.at,
        in_context_message_ids=[],
        isolated_block_ids=list((event.isolated or {}).values()),
        **event.settings.model_dump(),
    )


def sent(body: Body, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """Give what a request set; null sets nothing, as in the original."""
    return body.model_dump(exclude_unset=True, exclude_none=True, exclude=set(leave_out))


def _check_model(handle: str | None) -> None:
    """Check a handle's form; whether it leads anywhere shows when it is used."""
    if handle is not None and "/" not in handle.strip("/"):
        raise MalformedHandle(handle)


async def retrieve_conversation(
    services: Services, conversation_id: ConversationId
) -> ConversationAnswer:
    """Give a conversation, with the ids of the messages in its window."""
    await living_conversation(services, conversation_id)
    answer = await _row(services, conversation_id)
    answer.in_context_message_ids = await window_ids(services, conversation_id)
    return answer


async def _row(services: Services, conversation_id: str) -> ConversationAnswer:
    sql = "SELECT * FROM conversations WHERE conversation_id = ? AND deleted = 0"
    rows = await services.log.query(sql, (conversation_id,))
    if not rows:
        raise NotFound("Conversation", conversation_id)
    return _shown(rows[0])


def _shown(row: dict[str, Any]) -> ConversationAnswer:
    settings = row["model_settings"]
    row["model_settings"] = None if settings is None else orjson.loads(settings)
    copies: dict[str, str] = {} if row["isolated"] is None else orjson.loads(row["isolated"])
    ids = list(copies.values())
    return ConversationAnswer(id=row["conversation_id"], isolated_block_ids=ids, **row)


async def list_conversations(
    services: Services, query: ListConversations
) -> list[ConversationAnswer]:
    """List conversations. Those without a last run or message come last, either way."""
    where, params = _filters(query)
    if query.after is not None:
        bound, values = await _after(services, query)
        where.append(bound)
        params += values
    column, way = query.order_by, query.order.upper()
    sql = (
        f"SELECT * FROM conversations WHERE {' AND '.join(where)} "  # noqa: S608 - our own words
        f"ORDER BY {column} IS NULL, {column} {way}, conversation_id {way} LIMIT ?"
    )
    rows = await services.log.query(sql, (*params, query.limit))
    return [_shown(row) for row in rows]


def _filters(query: ListConversations) -> tuple[list[str], list[Scalar]]:
    # An agent's own conversation shares its uuid, and is not a conversation to clients.
    where = [
        "deleted = 0",
        "coalesce(hidden, 0) = 0",
        "substr(conversation_id, 6) <> substr(agent_id, 7)",
    ]
    params: list[Scalar] = []
    if query.agent_id is not None:
        where.append("agent_id = ?")
        params.append(query.agent_id)
    if query.summary_search:
        # Not LIKE: the original's search tells capitals from small letters.
        where.append("instr(summary, ?) > 0")
        params.append(query.summary_search)
    if query.archive_status != "all":
        where.append("archived = ?")
        params.append(int(query.archive_status == "archived"))
    return where, params


async def _after(services: Services, query: ListConversations) -> tuple[str, list[Scalar]]:
    """Give the condition for what comes after a conversation in the list's order."""
    column = query.order_by
    sql = f"SELECT {column} AS place FROM conversations WHERE conversation_id = ?"  # noqa: S608 - our own words
    rows = await services.log.query(sql, (query.after,))
    if not rows:
        raise ApiError(404, f"Conversation not found with id={query.after}")
    place, sign = rows[0]["place"], "<" if query.order == "desc" else ">"
    if place is None:
        return f"({column} IS NULL AND conversation_id {sign} ?)", [query.after]
    bound = (
        f"({column} IS NULL OR {column} {sign} ? OR ({column} = ? AND conversation_id {sign} ?))"
    )
    return bound, [place, place, query.after]


async def update_conversation(
    services: Services, conversation_id: ConversationId, body: UpdateConversation
) -> ConversationAnswer:
    """Change what is sent; null changes nothing."""
    _check_model(body.model)
    await living_conversation(services, conversation_id)
    changes = ConversationChanged(**sent(body))
    await services.execute(conversation_id, ChangeConversation(changes), "user")
    return await _row(services, conversation_id)


async def delete_conversation(services: Services, conversation_id: ConversationId) -> None:
    """Take a conversation out of every list and stop its runs; its log stays.

    Blocks that only it had are deleted with it.
    """
    try:
        await living_conversation(services, conversation_id)
    except NotFound:
        # A deletion that was cut short before its blocks is taken up.
        await _drop_copies(services, conversation_id)
        raise
    await put_an_end(services, conversation_id)


async def put_an_end(services: Services, conversation_id: str) -> None:
    """Delete a conversation, and then the blocks that only it had. Raises NotFound."""
    await services.execute(conversation_id, DeleteConversation(), "user")
    await _drop_copies(services, conversation_id)


async def _drop_copies(services: Services, conversation_id: str) -> None:
    state = await services.execute.conversation(conversation_id)
    await drop_copies(services.execute, state.isolated)


ROOT: Final = "/v1/conversations/"
ONE: Final = "/v1/conversations/{conversation_id}"
ENDPOINTS: Final = [
    endpoint(
        "POST",
        ROOT,
        create_conversation,
        ConversationAnswer,
        tag="conversations",
        errors=(400, 404),
    ),
    endpoint(
        "GET",
        ROOT,
        list_conversations,
        list[ConversationAnswer],
        tag="conversations",
        errors=(404,),
    ),
    endpoint(
        "GET", ONE, retrieve_conversation, ConversationAnswer, tag="conversations", errors=(404,)
    ),
    endpoint(
        "PATCH",
        ONE,
        update_conversation,
        ConversationAnswer,
        tag="conversations",
        errors=(400, 404),
    ),
    endpoint("DELETE", ONE, delete_conversation, None, tag="conversations", errors=(404,)),
]
