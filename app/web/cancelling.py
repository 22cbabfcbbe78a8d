"""Stops runs, and shows the messages that wait for theirs."""

import asyncio
from typing import Final

from app.mapper import revive
from app.storage.store import question_marks
from app.tail import Closed
from app.web.endpoint import endpoint
from app.web.errors import NO_RETRY, ApiError
from app.web.lookups import DEFAULT, Unbegun, conversation_at
from app.web.message_bodies import AnyConversationId, CancelBody, OwnerQuery, WaitingAnswer
from app.web.services import Services
from domain.content import InputPart
from domain.conversation import CancelRuns, Conversation
from domain.errors import Refused
from domain.streams import is_default

# A run elsewhere is told within a second; one that is slower to end is waited for no longer.
END_WAIT_S: Final = 5.0


async def cancel_conversation(
    services: Services,
    conversation_id: AnyConversationId,
    query: OwnerQuery,
    body: CancelBody | None,
) -> dict[str, str]:
    """Stop the runs of a conversation that are not over, and deny calls that wait for approval.

    What was said so far is kept. Only `run_ids` if it names some: queued ones are withdrawn.
    """
    run_ids = None if body is None or body.run_ids is None else tuple(body.run_ids)
    return await cancelled_at(services, conversation_id, query.agent_id, run_ids)


async def cancelled_at(
    services: Services,
    conversation_id: str,
    agent_id: str | None,
    run_ids: tuple[str, ...] | None,
) -> dict[str, str]:
    """Stop runs of the conversation that a path means. Raises NotFound, and 409 as `cancelled`."""
    try:
        stream, _ = await conversation_at(services, conversation_id, agent_id)
    except Unbegun as error:
        if run_ids is not None:
            return dict.fromkeys(run_ids, "failed")
        raise nothing_to_cancel(error.identity) from error
    return await cancelled(services, stream, run_ids)


def nothing_to_cancel(name: str) -> ApiError:
    """Give what is said of a conversation where nothing runs."""
    words = f"CONFLICT: No active runs to cancel for conversation {name}"
    return ApiError(409, words, headers=NO_RETRY)


async def cancelled(
    services: Services, stream: str, run_ids: tuple[str, ...] | None
) -> dict[str, str]:
    """Stop runs and wait until they are over. Raises 409 if there is nothing to stop."""
    before = await services.execute.conversation(stream)
    ids = _stoppable(before) if run_ids is None else list(run_ids)
    try:
        await services.execute(stream, CancelRuns(run_ids), "user")
    except Refused as error:
        if run_ids is not None:
            return await _told(services, stream, ids)
        named = DEFAULT if is_default(stream, before.agent_id or "") else stream
        raise nothing_to_cancel(named) from error
    await _ended(services, stream, {one for one in ids if one in before.runs})
    return await _told(services, stream, ids)


def _stoppable(state: Conversation) -> list[str]:
    asked = [] if state.asked is None else [state.asked.run_id]
    return [*state.runs, *asked]


async def _ended(services: Services, stream: str, run_ids: set[str]) -> None:
    """Wait until runs are over, so that whoever cancelled them can go on at once."""
    version, state = await services.execute.state(stream)
    left = run_ids & state.runs.keys()
    try:
        async with asyncio.timeout(END_WAIT_S):
            with services.tail.follow(stream, version) as follower:
                while left:
                    rows = await follower.next()
                    ends = (revive(row).event for row in rows if row.topic == "run.finished")
                    left -= {end.run_id for end in ends}
    except (TimeoutError, Closed):
        return


async def _told(services: Services, stream: str, ids: list[str]) -> dict[str, str]:
    """Say of each run that it is cancelled, or over; of one that is not there, that it failed."""
    known = await services.log.query(
        f"SELECT run_id FROM runs WHERE conversation_id = ? "  # noqa: S608 - only question marks
        f"AND run_id IN ({question_marks(ids)})",
        (stream, *ids),
    )
    found = {row["run_id"] for row in known}
    return {one: "cancelled" if one in found else "failed" for one in ids}


async def list_waiting(
    services: Services, conversation_id: AnyConversationId, query: OwnerQuery
) -> list[WaitingAnswer]:
    """List the messages that wait for their turn, the next one first."""
    _, state = await conversation_at(services, conversation_id, query.agent_id)
    order = {run_id: place for place, run_id in enumerate(state.runs)}
    waiting = sorted(state.waiting, key=lambda one: (order[one.message.run_id], one.offset))
    return [
        WaitingAnswer(
            message_id=one.message.message_id,
            run_id=one.message.run_id,
            offset=one.offset,
            mode=one.message.mode,
            role=one.message.role,
            content=_shown(one.message.content),
            otid=one.message.otid,
        )
        for one in waiting
    ]


def _shown(content: str | tuple[InputPart, ...]) -> str | list[InputPart]:
    return content if isinstance(content, str) else list(content)


ENDPOINTS: Final = [
    endpoint(
        "POST",
        "/v1/conversations/{conversation_id}/cancel",
        cancel_conversation,
        dict[str, str],
        tag="runs",
        errors=(404, 409),
    ),
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/queue",
        list_waiting,
        list[WaitingAnswer],
        tag="messages",
        errors=(404,),
    ),
]
