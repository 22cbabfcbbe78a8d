"""Messages to an agent itself: its own conversation, which begins with the first of them."""

from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request

from app.addresses import Forbidden, check_url
from app.history.holders import LISTED_OR_FORKED
from app.history.of_agents import AgentPage, Place, agent_messages_page, place_at
from app.storage.store import question_marks
from app.web.agent_answers import living_agent, pending_approval
from app.web.cancelling import cancelled, cancelled_at
from app.web.endpoint import AgentId, endpoint
from app.web.errors import NO_RETRY, ApiError, Invalid
from app.web.lookups import DEFAULT, Unbegun, conversation_at
from app.web.message_bodies import AgentMessages, CancelBody, CreateAsync, ListAgentMessages
from app.web.messages import SENDING_ERRORS, messages_in, unbegun_messages
from app.web.requests import command_of, keys_of
from app.web.run_bodies import RunAnswer
from app.web.runs import shown_run
from app.web.sending import accept, checked_mode, send
from app.web.services import Services
from app.web.stream import SSE_TYPE
from domain.errors import NotFound, Waiting
from domain.run import RunType
from domain.streams import default_conversation, system_message_id
from projections.answer import LettaResponse
from projections.letta import only
from projections.wire import Message


async def create_agent_message(
    services: Services, agent_id: AgentId, body: AgentMessages, request: Request
) -> Any:
    """Send messages to an agent and have it answer: one JSON document, or a stream of frames."""
    checked_mode(body)
    stream, state = await conversation_at(services, agent_id, None, begin=True)
    try:
        return await send(services, stream, state, body, request, run_type=_run_type(body))
    except Waiting as error:
        raise await _pending(services, stream, error) from error


def _run_type(body: AgentMessages) -> RunType:
    return "send_message_streaming" if body.streaming else "send_message"


async def _pending(services: Services, stream: str, error: Waiting) -> ApiError:
    """Say which message waits for approval; of all routes only this one does so in the original."""
    asking = await pending_approval(services, stream)
    detail = {
        "code": "PENDING_APPROVAL",
        "message": str(error),
        "pending_request_id": None if asking is None else asking["id"],
    }
    return ApiError(409, detail, headers=NO_RETRY)


async def stream_agent_message(
    services: Services, agent_id: AgentId, body: AgentMessages, request: Request
) -> Any:
    """Send messages to an agent and follow its answer as a stream."""
    stream, state = await conversation_at(services, agent_id, None, begin=True)
    streaming = body.model_copy(update={"streaming": True})
    return await send(services, stream, state, streaming, request, run_type=_run_type(streaming))


async def create_agent_message_async(
    services: Services, agent_id: AgentId, body: CreateAsync, request: Request
) -> RunAnswer:
    """Send messages to an agent and have it answer in the background; its callback is told."""
    if body.callback_url is not None:
        _check_callback(services, body.callback_url)
    stream, state = await conversation_at(services, agent_id, None, begin=True)
    background = body.model_copy(update={"background": True, "streaming": False})
    keys = keys_of(body, request.headers)
    command = command_of(
        background, keys, run_type="send_message_async", callback=body.callback_url
    )
    run = await accept(services, stream, state, command, request)
    shown = await shown_run(services, run.run_id)
    # A new one is shown as it was taken in: by now it may be under way, or over.
    return shown.model_copy(update=AS_ACCEPTED) if run.run_id == command.run_id else shown


def _check_callback(services: Services, url: str) -> None:
    try:
        check_url(url, private=services.settings.callback_private_addresses)
    except Forbidden as error:
        raise Invalid(f"callback_url: {error}") from error


async def list_agent_messages(
    services: Services, agent_id: AgentId, query: ListAgentMessages
) -> list[Message]:
    """List the messages of all an agent's conversations, in the order they came in, or of one."""
    await living_agent(services, agent_id)
    if query.conversation_id is not None:
        return await _of_one(services, agent_id, query.conversation_id, query)
    after, before = query.after, query.before
    if query.order == "desc" and after is not None and before is None:
        after, before = None, after  # as in a conversation's list: both walk to older ones
    newest_first = query.order == "desc" or (before is not None and after is None)
    page = AgentPage(agent_id, limit=query.limit, newest_first=newest_first)
    try:
        if after is not None:
            page = replace(page, after=await _place(services, agent_id, after))
        if before is not None:
            page = replace(page, before=await _place(services, agent_id, before))
    except Unbegun:
        return []  # there is nothing beside the prompt
    log = services.log
    found = await log.in_reader(lambda: agent_messages_page(log.store, page))
    if not found and after is None and before is None:
        return await _of_one(services, agent_id, DEFAULT, query)
    if newest_first and query.order == "asc":
        found.reverse()
    return only(found, query.include_return_message_types)


async def _of_one(
    services: Services, agent_id: str, conversation_id: str, query: ListAgentMessages
) -> list[Message]:
    """List the messages of one conversation. Raises NotFound if it is not this agent's."""
    try:
        stream, state = await conversation_at(services, conversation_id, agent_id)
    except Unbegun:
        return await unbegun_messages(services, agent_id, query)
    if state.agent_id != agent_id:
        raise NotFound("Conversation", conversation_id)
    return await messages_in(services, stream, query)


async def _place(services: Services, agent_id: str, message_id: str) -> Place:
    """Give the place of a message of an agent.

    Raises 404, Unbegun for the prompt that is shown before anybody has written to the agent.
    """
    rows = await services.log.query(
        "SELECT stream, version FROM locators JOIN conversations "  # noqa: S608 - our own words
        "ON conversations.conversation_id = locators.stream "
        f"WHERE locators.id = ? AND conversations.agent_id = ? AND {LISTED_OR_FORKED}",
        (message_id, agent_id),
    )
    if not rows and message_id == system_message_id(default_conversation(agent_id)):
        raise Unbegun(agent_id)
    if not rows:
        raise ApiError(404, f"Message not found with id={message_id}")
    stream, offset = rows[0]["stream"], rows[0]["version"]
    return await services.log.in_reader(lambda: place_at(services.log.store, stream, offset))


async def cancel_agent_messages(
    services: Services, agent_id: AgentId, body: CancelBody | None
) -> dict[str, str]:
    """Stop runs of an agent: those named, wherever they are, else those of its own conversation."""
    if body is None or body.run_ids is None:
        return await cancelled_at(services, agent_id, None, None)
    told = dict.fromkeys(body.run_ids, "failed")
    for stream, run_ids in (await _streams_of(services, agent_id, body.run_ids)).items():
        told |= await cancelled(services, stream, tuple(run_ids))
    return told


async def _streams_of(
    services: Services, agent_id: str, run_ids: list[str]
) -> dict[str, list[str]]:
    """Tell which conversations of an agent the runs are in. Raises 404 for an unknown agent."""
    agent = await services.execute.agent(agent_id)
    if agent.settings is None or agent.deleted:
        raise ApiError(404, f"Agent with ID {agent_id} not found")
    rows = await services.log.query(
        "SELECT runs.conversation_id, runs.run_id FROM locators "  # noqa: S608 - only question marks
        "JOIN runs ON runs.conversation_id = locators.stream AND runs.run_id = locators.id "
        "JOIN conversations ON conversations.conversation_id = runs.conversation_id "
        "WHERE conversations.agent_id = ? AND conversations.deleted = 0 "
        f"AND locators.id IN ({question_marks(run_ids)})",
        (agent_id, *run_ids),
    )
    streams: dict[str, list[str]] = {}
    for row in rows:
        streams.setdefault(row["conversation_id"], []).append(row["run_id"])
    return streams


AS_ACCEPTED: Final = {
    "status": "created",
    "stop_reason": None,
    "completed_at": None,
    "ttft_ns": None,
    "total_duration_ns": None,
}
MESSAGES: Final = "/v1/agents/{agent_id}/messages"
ENDPOINTS: Final = [
    endpoint("GET", MESSAGES, list_agent_messages, list[Message], tag="messages", errors=(404,)),
    endpoint(
        "POST",
        MESSAGES,
        create_agent_message,
        LettaResponse,
        tag="messages",
        errors=SENDING_ERRORS,
        media_types=("application/json", SSE_TYPE),
    ),
    endpoint(
        "POST",
        f"{MESSAGES}/stream",
        stream_agent_message,
        str,
        tag="messages",
        errors=SENDING_ERRORS,
        media_types=(SSE_TYPE,),
    ),
    endpoint(
        "POST",
        f"{MESSAGES}/async",
        create_agent_message_async,
        RunAnswer,
        tag="messages",
        errors=(400, 404, 409, 429),
    ),
    endpoint(
        "POST",
        f"{MESSAGES}/cancel",
        cancel_agent_messages,
        dict[str, str],
        tag="runs",
        errors=(404, 409),
    ),
]
