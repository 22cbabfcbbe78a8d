"""Messages of a conversation: list them, send some, resume a run's stream."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeAlias
from uuid import uuid4

import orjson
from pydantic import StringConstraints

from app.history import Page, messages_page
from app.mapper import Row, revive
from app.store import VERSION_MAX
from app.web.endpoint import endpoint
from app.web.errors import ApiError, Invalid, NotYet, json_response
from app.web.lookups import (
    FoundRun,
    active_run,
    found_run,
    living_conversation,
    place_of,
    run_of_key,
)
from app.web.message_bodies import (
    CreateMessages,
    LettaAnswer,
    ListMessages,
    MessageIn,
    ResumeStream,
)
from app.web.services import Services
from app.web.stream import SSE_TYPE, EventStream, RunStream
from domain.content import InputPart, parts_of
from domain.conversation import NewMessage, QueueRun
from domain.errors import NotFound
from domain.event import Recorded
from domain.models import model_of
from domain.run import Overrides, RunFinished, RunRequest
from domain.streams import AGENT, CONVERSATION, MESSAGE, RUN, id_of, pattern_of
from projections.frames import usage_shown
from projections.letta import Message, only
from projections.listing import messages_of

# `default` and an agent's id are forms of their own (contract section 1.3).
ANY_CONVERSATION: Final = f"^default$|{pattern_of(CONVERSATION)}|{pattern_of(AGENT)}"
AnyConversationId: TypeAlias = Annotated[str, StringConstraints(pattern=ANY_CONVERSATION)]

# A client may ask for a run by its otid before its own POST has arrived (contract section 5.3).
OTID_WAITS_S: Final = (0.25, 0.5, 1.0)
ERROR_STATUSES: Final = {
    "llm_authentication": 401,
    "llm_insufficient_credits": 402,
    "llm_rate_limit": 429,
    "llm_bad_request": 400,
    "context_window_overflow": 400,
    "llm_timeout": 504,
}


async def list_messages(
    services: Services, conversation_id: AnyConversationId, query: ListMessages
) -> list[Message]:
    """List all messages of a conversation, in its window or not."""
    try:
        await living_conversation(services, conversation_id)
    except NotFound:
        return []
    page = await _page(services, conversation_id, query)
    log = services.log
    found = await log.in_reader(lambda: messages_page(log.store, conversation_id, page))
    if page.newest_first and query.order == "asc":
        found.reverse()
    return only(found, query.include_return_message_types)


async def _page(services: Services, stream: str, query: ListMessages) -> Page:
    """Turn message ids into places. Going `desc`, `after` the last item seen is older, too.

    Going `asc`, `before` alone means those just before it, so it is read from there backwards.
    """
    newest_first = query.order == "desc"
    after, before = query.after, query.before
    if newest_first and after is not None and before is None:
        after, before = None, after
    return Page(
        after=0 if after is None else await place_of(services, stream, after),
        before=VERSION_MAX if before is None else await place_of(services, stream, before),
        limit=query.limit,
        newest_first=newest_first or (before is not None and after is None),
    )


async def create_message(
    services: Services, conversation_id: AnyConversationId, body: CreateMessages
) -> Any:
    """Send messages and have the model answer: a stream of frames, or one JSON document.

    Every run is durable and resumable, whatever `streaming` and `background` say.
    """
    state = await living_conversation(services, conversation_id)
    command = _command(body)
    agent = await services.execute.agent(state.agent_id or "")
    services.catalogue.resolve(model_of(state, agent, command.request.overrides)[0])
    facts = await services.execute(conversation_id, command, "user")
    run = RunStream(services, conversation_id, command.run_id, facts[0].version)
    if body.streaming:
        return EventStream(run.fresh_frames(pings=body.include_pings))
    return _answer(command, await run.finished())


def _command(body: CreateMessages) -> QueueRun:
    if body.client_tools:
        raise NotYet("client_tools: this version runs no tools; leave them out")
    sent = _sent(body)
    otids = [one.otid for one in sent if one.otid is not None]
    if len(set(otids)) != len(otids):
        raise Invalid("messages: an otid stands twice; each message has its own")
    return QueueRun(
        run_id=id_of(RUN, uuid4()),
        request=_request(body),
        messages=tuple(_message(one) for one in sent),
        on_busy="reject" if body.streaming else "enqueue",
        body_hash=_hash(body, sent),
        keys=tuple(f"otid:{otid}" for otid in otids),
    )


def _sent(body: CreateMessages) -> Sequence[MessageIn]:
    if body.messages is None:
        return [MessageIn(role="user", content=body.input)]
    if any(one.type != "message" for one in body.messages):
        raise NotYet("approval and tool_return messages: this version runs no tools")
    return body.messages


def _message(one: MessageIn) -> NewMessage:
    content = one.content if isinstance(one.content, str) else tuple(one.content or ())
    return NewMessage(
        message_id=id_of(MESSAGE, uuid4()),
        otid=one.otid or str(uuid4()),
        role=one.role or "user",
        content=content,
    )


def _request(body: CreateMessages) -> RunRequest:
    chosen: dict[str, Any] = {
        "streaming": body.streaming,
        "stream_tokens": body.stream_tokens,
        "background": body.background,
        "pings": body.include_pings,
        "max_steps": body.max_steps,
    }
    if body.include_return_message_types is not None:
        chosen["filters"] = tuple(body.include_return_message_types)
    if body.include_compaction_messages:
        chosen["compaction_messages"] = True
    if body.override_model or body.override_system:
        chosen["overrides"] = Overrides(model=body.override_model, system=body.override_system)
    if body.client_skills:
        chosen["skills"] = tuple(body.client_skills)
    return RunRequest(**chosen)


def _hash(body: CreateMessages, sent: Sequence[MessageIn]) -> str:
    """Hash what a request means, not how its answer travels."""
    meaning = {
        "messages": [
            [one.role, one.otid, [part.model_dump(mode="json") for part in _parts_of(one)]]
            for one in sent
        ],
        "overrides": [body.override_model, body.override_system],
        "skills": body.client_skills or [],
    }
    return hashlib.sha256(orjson.dumps(meaning, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _parts_of(one: MessageIn) -> Sequence[InputPart]:
    """Give a message's parts; words alone mean the same as one part with them."""
    return parts_of(one.content) if isinstance(one.content, str) else one.content or []


def _answer(command: QueueRun, rows: list[Row]) -> Any:
    """Give a finished run as one document, or its failure as an HTTP error."""
    facts = [revive(row) for row in rows]
    ending = _ending(facts, command.run_id)
    if ending.error is not None:
        error = ending.error
        shown = {"type": error.error_type, "message": error.message, "detail": error.detail}
        return json_response(ERROR_STATUSES.get(error.error_type, 500), {"error": shown})
    messages = [
        item
        for _, items in messages_of(facts)
        for item in items
        if item["run_id"] == command.run_id and item["step_id"] is not None
    ]
    return {
        "messages": only(messages, command.request.filters),
        "stop_reason": {"message_type": "stop_reason", "stop_reason": ending.stop_reason},
        "usage": usage_shown(ending.usage),
        "logprobs": None,
        "turns": None,
    }


def _ending(facts: Sequence[Recorded[Any]], run_id: str) -> RunFinished:
    return next(
        fact.event
        for fact in facts
        if isinstance(fact.event, RunFinished) and fact.event.run_id == run_id
    )


# --- resume -----------------------------------------------------------------------------------


async def resume_stream(
    services: Services, conversation_id: AnyConversationId, body: ResumeStream | None
) -> EventStream:
    """Show a run's frames after an offset, and follow it: any run, live or long over."""
    await living_conversation(services, conversation_id)
    asked = body or ResumeStream()
    return await stream_of(services, await _picked(services, conversation_id, asked), asked)


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
        raise ApiError(400, "No active runs found for this conversation.")
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
    endpoint("GET", MESSAGES, list_messages, list[Message], tag="messages", errors=(404, 501)),
    endpoint(
        "POST",
        MESSAGES,
        create_message,
        LettaAnswer,
        tag="messages",
        errors=(400, 401, 402, 404, 409, 429, 501, 504),
        media_types=(SSE_TYPE, "application/json"),
    ),
    endpoint(
        "POST",
        "/v1/conversations/{conversation_id}/stream",
        resume_stream,
        str,
        tag="messages",
        errors=(400, 404, 409, 501),
        media_types=(SSE_TYPE,),
    ),
]
