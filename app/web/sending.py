"""Takes a request in, once, and answers it: a stream of frames, or one JSON document.

Every run is durable and resumable, whatever `streaming` and `background` say. A request that is
known by its keys, or as a client library's own second try, is answered with the run that it is.
"""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

from starlette.requests import Request

from app.log import utc_now
from app.mapper import revive
from app.web.errors import ApiError, json_response
from app.web.lookups import FoundRun, run_of_key, run_with_id
from app.web.message_bodies import AgentMessages
from app.web.requests import command_of, keys_of
from app.web.services import Services
from app.web.stream import EventStream, RunStream
from domain.agent import Agent
from domain.conversation import Conversation, QueueRun, known_run
from domain.errors import DomainError, KeyReused, Unasked, Waiting
from domain.models import model_of
from domain.run import RunType
from projections.answer import ending_of, response_of
from projections.columns import sortable
from projections.frames import DONE, sse

OVERFLOWS: Final = ("context_window_overflow", "context_window_overflow_in_system_prompt")
ERROR_STATUSES: Final = {
    "llm_authentication": 401,
    "llm_insufficient_credits": 402,
    "llm_rate_limit": 429,
    "llm_bad_request": 400,
    **dict.fromkeys(OVERFLOWS, 400),
    "llm_timeout": 504,
}
# In a vendor's own words, which are stored with its failure: there is no kind of error for it.
OVERLOADED: Final = re.compile(r"status_code: (503|529)\b|\boverloaded_error\b")
RETRY_HEADER: Final = "x-stainless-retry-count"
# For so long an equal body, sent again by the client library itself, is the same request.
RETRY_WITHIN: Final = timedelta(minutes=5)


async def send(  # noqa: PLR0913 - the request, and what is known of where it goes
    services: Services,
    stream: str,
    state: Conversation,
    body: AgentMessages,
    request: Request,
    *,
    run_type: RunType | None = None,
) -> Any:
    """Take a request in and answer it as it asks to be."""
    command = command_of(body, keys_of(body, request.headers), run_type=run_type)
    # Followed from before it is stored: a document's facts are then never read from the database.
    with services.tail.follow(stream, 0):
        try:
            run = await accept(services, stream, state, command, request)
        except (Waiting, Unasked) as error:
            if body.streaming:
                return EventStream(_refusal(error))
            raise
        frames = RunStream(services, stream, run.run_id, run.queued_at, run.finished_at)
        if not body.streaming:
            return answer_of([revive(row) for row in await frames.finished()], run.run_id)
    fresh = run.run_id == command.run_id
    pings = body.include_pings
    shown = frames.fresh_frames(pings=pings) if fresh else await frames.frames(0, pings=pings)
    return EventStream(shown)


async def accept(
    services: Services, stream: str, state: Conversation, command: QueueRun, request: Request
) -> FoundRun:
    """Queue a run, or give the one that the request is already."""
    agent: Agent = await services.execute.agent(state.agent_id or "")
    services.catalogue.resolve(model_of(state, agent, command.request.overrides)[0])
    run = await _sent_before(services, stream, state, command, request)
    if run is not None:
        return run
    facts = await services.execute(stream, command, "user")
    if facts:
        return FoundRun(stream, command.run_id, facts[0].version, None, {})
    known = known_run(await services.execute.conversation(stream), command)
    return await run_with_id(services, stream, known or "")


async def _sent_before(
    services: Services, stream: str, state: Conversation, command: QueueRun, request: Request
) -> FoundRun | None:
    """Look for the request where the conversation's state does not reach."""
    if state.keys_forgotten:
        for key in command.keys:
            run = await run_of_key(services, stream, key)
            if run is not None:
                return _same(run, key, command)
    if request.headers.get(RETRY_HEADER, "0") not in ("", "0"):
        return await _retried(services, stream, command)
    return None


def _same(run: FoundRun, key: str, command: QueueRun) -> FoundRun:
    if run.row["body_hash"] != command.body_hash:
        raise KeyReused(key, run.run_id)
    return run


async def _retried(services: Services, stream: str, command: QueueRun) -> FoundRun | None:
    since = sortable(utc_now() - RETRY_WITHIN)
    rows = await services.log.query(
        "SELECT run_id FROM runs WHERE conversation_id = ? AND body_hash = ? AND created_at >= ? "
        "ORDER BY queued_at DESC LIMIT 1",
        (stream, command.body_hash, since),
    )
    return await run_with_id(services, stream, rows[0]["run_id"]) if rows else None


async def _refusal(error: DomainError) -> AsyncIterator[bytes]:
    """Say no in a stream, where the original did not answer with a status (contract 5.1)."""
    conflict = "CONFLICT: " if isinstance(error, Waiting) else ""
    shown = {
        "message_type": "error_message",
        "run_id": None,
        "error_type": "internal_error",
        "message": f"{conflict}{error}",
        "detail": None,
        "seq_id": None,
    }
    stop = sse({"message_type": "stop_reason", "stop_reason": "error"})
    yield stop + sse(shown, "error") + DONE


def answer_of(facts: list[Any], run_id: str) -> Any:
    """Give a finished run as one document, or its failure as an HTTP error."""
    error = ending_of(facts, run_id).error
    if error is None:
        return response_of(facts, run_id)
    body: dict[str, Any] = {
        "error": {"type": error.error_type, "message": error.message, "detail": error.detail}
    }
    if error.error_type in OVERFLOWS:
        body["detail"] = f"CONTEXT_WINDOW_EXCEEDED: {error.message}"  # as the original says it
    if error.error_type == "llm_error" and OVERLOADED.search(error.detail or ""):
        body["detail"] = f"The model's vendor is overloaded. {error.message}"
        return json_response(503, body)
    return json_response(ERROR_STATUSES.get(error.error_type, 500), body)


def checked_mode(body: AgentMessages) -> None:
    """Refuse what only a stream can have in a request for a document (contract 11.1)."""
    if body.streaming:
        return
    for name, wanted in (
        ("stream_tokens", body.stream_tokens),
        ("background", body.background),
        ("include_pings", not body.include_pings),
    ):
        if wanted:
            raise ApiError(422, f"{name}: only with streaming: true")
