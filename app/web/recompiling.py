"""System prompts compiled anew, because memory has changed; and windows emptied down to them."""

from contextlib import suppress
from typing import Any, Final

from app.log import utc_now
from app.memory.blocks import compile_system
from app.web.agent_answers import ALL, agent_answer, living_agent
from app.web.agent_bodies import AgentAnswer
from app.web.bodies import Body, Cursor
from app.web.cancelling import cancelled
from app.web.endpoint import AgentId, endpoint
from app.web.errors import NO_RETRY, ApiError
from app.web.lookups import DEFAULT, Unbegun, conversation_at
from app.web.message_bodies import AnyConversationId
from app.web.services import Services
from domain.conversation import Counts, ResetWindow
from domain.errors import Busy

# How often a request that comes while its conversation is being reset is cancelled as well.
RESETS_MAX: Final = 3


class Recompile(Body):
    """Whether only to show what the prompt would be; `agent_id` says whose `default` is."""

    dry_run: bool = False
    agent_id: Cursor | None = None


class RecompileBody(Body):
    """Whose conversation `default` is. Settings of compactions are taken: a prompt has no use of them."""

    agent_id: Cursor | None = None
    compaction_settings: dict[str, Any] | None = None


class RecompileAgent(Body):
    """With `update_timestamp` the prompt is compiled even if all that it says would be the same."""

    dry_run: bool = False
    update_timestamp: bool = False


class ResetMessages(Body):
    """`add_default_initial_messages` is taken: an agent of this kind begins with its prompt alone."""

    add_default_initial_messages: bool = False


async def recompile_conversation(
    services: Services,
    conversation_id: AnyConversationId,
    query: Recompile,
    body: RecompileBody | None,
) -> str:
    """Compile a conversation's system prompt from its agent's memory as it is now; give it.

    If nothing has changed since it was compiled, it stays as it is.
    """
    owner = query.agent_id if body is None else body.agent_id or query.agent_id
    return await _recompiled(services, conversation_id, owner, dry_run=query.dry_run)


async def recompile_agent(services: Services, agent_id: AgentId, query: RecompileAgent) -> str:
    """Compile the system prompt of an agent's own conversation anew; give it."""
    await living_agent(services, agent_id)
    return await _recompiled(
        services, agent_id, None, dry_run=query.dry_run, always=query.update_timestamp
    )


async def _recompiled(
    services: Services,
    conversation_id: str,
    agent_id: str | None,
    *,
    dry_run: bool,
    always: bool = False,
) -> str:
    try:
        stream, state = await conversation_at(
            services, conversation_id, agent_id, begin=not dry_run
        )
    except Unbegun as error:
        owner = error.agent_id
        system = await compile_system(services.execute, owner, DEFAULT, utc_now(), Counts())
        return system.text
    return await services.renewing.renew(stream, state, "user", dry_run=dry_run, always=always)


async def recompile_own(services: Services, agent_id: str) -> None:
    """Have an agent's own conversation know its memory as it is now, if it has begun."""
    try:
        stream, state = await conversation_at(services, agent_id, None)
    except Unbegun:
        return
    await services.renewing.renew(stream, state, "user")


async def reset_agent_messages(
    services: Services,
    agent_id: AgentId,
    body: ResetMessages,  # noqa: ARG001 - it has to be there, and nothing in it changes anything
) -> AgentAnswer:
    """Leave nothing in an agent's own conversation but its system prompt, compiled anew.

    Runs under way are cancelled. Other conversations stay, and so does the log of this one.
    """
    await living_agent(services, agent_id)
    try:
        stream, _ = await conversation_at(services, agent_id, None)
    except Unbegun:
        return await agent_answer(services, agent_id, ALL)
    await _reset(services, stream)
    return await agent_answer(services, agent_id, ALL)


async def _reset(services: Services, stream: str) -> None:
    for attempt in range(1, RESETS_MAX + 1):
        state = await services.execute.conversation(stream)
        if state.runs:
            with suppress(ApiError):  # they have ended by themselves
                await cancelled(services, stream, None)
        system = await services.renewing.fresh(stream, state, emptied=True)
        try:
            await services.execute(stream, ResetWindow(system), "user")
        except Busy as error:
            if attempt == RESETS_MAX:
                words = f"CONFLICT: {error.run_id} is not over; reset again when it is."
                raise ApiError(409, words, headers=NO_RETRY, run_id=error.run_id) from error
        else:
            return


ENDPOINTS: Final = [
    endpoint(
        "POST",
        "/v1/conversations/{conversation_id}/recompile",
        recompile_conversation,
        str,
        tag="conversations",
        errors=(404,),
    ),
    endpoint(
        "POST",
        "/v1/agents/{agent_id}/recompile",
        recompile_agent,
        str,
        tag="agents",
        errors=(404,),
    ),
    endpoint(
        "PATCH",
        "/v1/agents/{agent_id}/reset-messages",
        reset_agent_messages,
        AgentAnswer,
        tag="messages",
        errors=(404, 409),
    ),
]
