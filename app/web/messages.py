"""Messages of a conversation: list them, send some, resume a run's stream."""

import asyncio
from typing import Any, Final

from starlette.requests import Request

from app.history.pages import Page, messages_page
from app.log import utc_now
from app.memory.blocks import compile_system
from app.storage.lineages import BEGINNING
from app.storage.store import VERSION_MAX
from app.web.endpoint import MessageId, endpoint
from app.web.errors import ApiError
from app.web.lookups import (
    DEFAULT,
    FoundRun,
    Unbegun,
    active_run,
    conversation_at,
    found_run,
    located,
    place_of,
    run_of_key,
)
from app.web.message_bodies import (
    AnyConversationId,
    CreateMessages,
    ListMessages,
    MessageUpdated,
    OwnerQuery,
    ResumeStream,
    UpdateMessage,
)
from app.web.sending import send
from app.web.services import Services
from app.web.stream import SSE_TYPE, EventStream, RunStream
from domain.conversation import Counts, PinMessage
from domain.errors import NotFound
from domain.streams import default_conversation, system_message_id
from projections.answer import LettaResponse
from projections.letta import only, prompt_message
from projections.wire import Message

# A client may ask for a run by its otid before its own POST has arrived (contract section 5.3).
OTID_WAITS_S: Final = (0.25, 0.5, 1.0)


NO_RUNS: Final = "No active runs found for this conversation."
SENDING_ERRORS: Final = (400, 401, 402, 404, 409, 429, 504)


async def list_messages(
    services: Services, conversation_id: AnyConversationId, query: ListMessages
) -> list[Message]:
    """List all messages of a conversation, in its window or not."""
    try:
        stream, _ = await conversation_at(services, conversation_id, query.agent_id)
    except Unbegun as error:
        return await unbegun_messages(services, error.agent_id, query)
    except NotFound:
        return []
    return await messages_in(services, stream, query)


async def messages_in(services: Services, stream: str, query: ListMessages) -> list[Message]:
    """List the messages of a stream. Raises 404 for an unknown cursor."""
    page = await _page(services, stream, query)
    log = services.log
    found = await log.in_reader(lambda: messages_page(log.store, stream, page))
    if page.newest_first and query.order == "asc":
        found.reverse()
    return only(found, query.include_return_message_types)


async def unbegun_messages(services: Services, agent_id: str, query: ListMessages) -> list[Message]:
    """Show the prompt that an agent's own conversation would begin with: its one message.

    Raises 404 for a cursor that is another message's.
    """
    message_id = system_message_id(default_conversation(agent_id))
    for cursor in (query.after, query.before):
        if cursor not in (None, message_id):
            raise ApiError(404, f"Message not found with id={cursor}")
    if query.after or query.before or not query.limit:
        return []
    at = utc_now()
    system = await compile_system(services.execute, agent_id, DEFAULT, at, Counts())
    return only([prompt_message(message_id, at, system.text)], query.include_return_message_types)


async def update_message(
    services: Services,
    conversation_id: AnyConversationId,
    message_id: MessageId,
    query: OwnerQuery,
    body: UpdateMessage,
) -> MessageUpdated:
    """Pin a message, so that no compaction evicts it, or let it go.

    A reply that calls tools is pinned with the returns of its calls, and a return with its reply.
    """
    stream, _ = await conversation_at(services, conversation_id, query.agent_id)
    lineage, place = await located(services, stream, message_id)
    await services.execute(stream, PinMessage(message_id, body.pinned), "user")
    owner, offset = lineage.named(place)
    return MessageUpdated(id=message_id, offset=offset, stream=owner, pinned=body.pinned)


async def _page(services: Services, stream: str, query: ListMessages) -> Page:
    """Turn message ids into places. Going `desc`, `after` the last item seen is older, too.

    Going `asc`, `before` alone means those just before it, so it is read from there backwards.
    """
    newest_first = query.order == "desc"
    after, before = query.after, query.before
    if newest_first and after is not None and before is None:
        after, before = None, after
    return Page(
        after=BEGINNING if after is None else await place_of(services, stream, after),
        before=VERSION_MAX if before is None else await place_of(services, stream, before),
        limit=query.limit,
        newest_first=newest_first or (before is not None and after is None),
    )


async def create_message(
    services: Services,
    conversation_id: AnyConversationId,
    body: CreateMessages,
    request: Request,
) -> Any:
    """Send messages and have the model answer: a stream of frames, or one JSON document.

    Every run is durable and resumable, whatever `streaming` and `background` say.
    """
    stream, state = await conversation_at(services, conversation_id, body.agent_id, begin=True)
    return await send(services, stream, state, body, request)


# --- resume -----------------------------------------------------------------------------------


async def resume_stream(
    services: Services, conversation_id: AnyConversationId, body: ResumeStream | None
) -> EventStream:
    """Show a run's frames after an offset, and follow it: any run, live or long over."""
    asked = body or ResumeStream()
    try:
        stream, _ = await conversation_at(services, conversation_id, asked.agent_id)
    except NotFound as error:
        # The original's word for `default`, whether there is something behind it or not.
        if isinstance(error, Unbegun) or (conversation_id, asked.agent_id) == (DEFAULT, None):
            raise ApiError(400, NO_RUNS) from error
        raise
    return await stream_of(services, await _picked(services, stream, asked), asked)


async def stream_of(services: Services, run: FoundRun, asked: ResumeStream) -> EventStream:
    """Make the response that shows a run."""
    stream = RunStream(services, run.conversation_id, run.run_id, run.queued_at, run.finished_at)
    pings = asked.include_pings is not False
    return EventStream(await stream.frames(asked.starting_after or 0, pings=pings))


async def _picked(services: Services, conversation_id: str, asked: ResumeStream) -> FoundRun:
    if asked.run_id is not None:
        run = await found_run(services, asked.run_id)
        if run.conversation_id != conversation_id:
            raise NotFound("Run", asked.run_id)
        return run
    if asked.otid is not None:
        return await _by_otid(services, conversation_id, asked.otid)
    active = await active_run(services, conversation_id)
    if active is None:
        raise ApiError(400, NO_RUNS)
    return active


async def _by_otid(services: Services, conversation_id: str, otid: str) -> FoundRun:
    for wait_s in (*OTID_WAITS_S, None):
        run = await run_of_key(services, conversation_id, f"otid:{otid}")
        if run is not None:
            return run
        if wait_s is not None:
            await asyncio.sleep(wait_s)
    raise ApiError(404, f"No run found for otid={otid}")


MESSAGES: Final = "/v1/conversations/{conversation_id}/messages"
ENDPOINTS: Final = [
    endpoint("GET", MESSAGES, list_messages, list[Message], tag="messages", errors=(404,)),
    endpoint(
        "PATCH",
        f"{MESSAGES}/{{message_id}}",
        update_message,
        MessageUpdated,
        tag="messages",
        errors=(404, 409, 429),
    ),
    endpoint(
        "POST",
        MESSAGES,
        create_message,
        LettaResponse,
        tag="messages",
        errors=SENDING_ERRORS,
        media_types=(SSE_TYPE, "application/json"),
    ),
    endpoint(
        "POST",
        "/v1/conversations/{conversation_id}/stream",
        resume_stream,
        str,
        tag="messages",
        errors=(400, 404, 409),
        media_types=(SSE_TYPE,),
    ),
]
