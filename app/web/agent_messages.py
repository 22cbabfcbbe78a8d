"""Messages to an agent itself: its own conversation, which begins with the first of them."""

from typing import Any, Final

from starlette.requests import Request

from app.addresses import Forbidden, check_url
from app.web.cancelling import cancelled
from app.web.endpoint import AgentId, endpoint
from app.web.errors import ApiError, Invalid
from app.web.lookups import conversation_at
from app.web.message_bodies import AgentMessages, CancelBody, CreateAsync
from app.web.messages import SENDING_ERRORS
from app.web.requests import command_of, keys_of
from app.web.run_bodies import RunAnswer
from app.web.runs import shown_run
from app.web.sending import accept, checked_mode, send
from app.web.services import Services
from app.web.stream import SSE_TYPE
from projections.answer import LettaResponse


async def create_agent_message(
    services: Services, agent_id: AgentId, body: AgentMessages, request: Request
) -> Any:
    """Send messages to an agent and have it answer: one JSON document, or a stream of frames."""
    checked_mode(body)
    stream, state = await conversation_at(services, agent_id, None, begin=True)
    return await send(services, stream, state, body, request)


async def stream_agent_message(
    services: Services, agent_id: AgentId, body: AgentMessages, request: Request
) -> Any:
    """Send messages to an agent and follow its answer as a stream."""
    stream, state = await conversation_at(services, agent_id, None, begin=True)
    streaming = body.model_copy(update={"streaming": True})
    return await send(services, stream, state, streaming, request)


async def create_agent_message_async(
    services: Services, agent_id: AgentId, body: CreateAsync, request: Request
) -> RunAnswer:
    """Send messages to an agent and have it answer in the background; its callback is told."""
    if body.callback_url is not None:
        _check_callback(services, body.callback_url)
    stream, state = await conversation_at(services, agent_id, None, begin=True)
    background = body.model_copy(update={"background": True, "streaming": False})
    command = command_of(background, keys_of(body, request.headers), body.callback_url)
    run = await accept(services, stream, state, command, request)
    shown = await shown_run(services, run.run_id)
    # A new one is shown as it was taken in: by now it may be under way, or over.
    return shown.model_copy(update=AS_ACCEPTED) if run.run_id == command.run_id else shown


def _check_callback(services: Services, url: str) -> None:
    try:
        check_url(url, private=services.settings.callback_private_addresses)
    except Forbidden as error:
        raise Invalid(f"callback_url: {error}") from error


async def cancel_agent_messages(
    services: Services, agent_id: AgentId, body: CancelBody | None
) -> dict[str, str]:
    """Stop runs of an agent: those named, wherever they are, else those of its own conversation."""
    if body is None or body.run_ids is None:
        stream, _ = await conversation_at(services, agent_id, None)
        return await cancelled(services, stream, None)
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
        "SELECT runs.conversation_id, runs.run_id FROM locators "  # noqa: S608 - only marks
        "JOIN runs ON runs.conversation_id = locators.stream AND runs.run_id = locators.id "
        "JOIN conversations ON conversations.conversation_id = runs.conversation_id "
        "WHERE conversations.agent_id = ? AND conversations.deleted = 0 "
        f"AND locators.id IN ({', '.join('?' * len(run_ids))})",
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
    "total_duration_ns": None,
}
MESSAGES: Final = "/v1/agents/{agent_id}/messages"
ENDPOINTS: Final = [
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
