"""Agents as clients see them, and what every route of theirs needs."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request

from app.compaction.settings import complete
from app.history.pages import Page, messages_page
from app.memory.blocks import memory_of
from app.model_settings import as_llm_config
from app.providers.catalogue import CONTEXT_WINDOW, MalformedHandle, UnknownHandle
from app.storage.store import question_marks
from app.tools.rules import rules_of
from app.web.agent_bodies import (
    BLOCKS_MAX,
    AgentAnswer,
    LlmConfigAnswer,
    MemoryAnswer,
)
from app.web.agent_sleeptime import shown_group, shown_sleeptime
from app.web.block_bodies import BlockAnswer
from app.web.blocks import shown_block
from app.web.errors import ApiError, Invalid
from app.web.lookups import window_ids
from app.web.pages import row_of
from app.web.services import Services
from app.web.tool_answers import shown_tools
from domain.agent import Agent, AgentSettings
from domain.compaction import CompactionSettings
from domain.errors import NotFound, Refused
from domain.event import Command
from domain.streams import default_conversation
from projections.wire import ApprovalRequestMessage

SDK_HEADER: Final = "x-stainless-package-version"
NOT_SHOWN_AS_STORED: Final = {
    "approval_tools",
    "block_ids",
    "compaction_settings",
    "sleeptime",
    "tags",
    "terminal_tools",
    "tools",
}
ALL: Final = frozenset({"agent.blocks", "agent.managed_group", "agent.tags", "agent.tools"})


def check_labels(labels: list[str]) -> None:
    """Check the blocks that an agent would have. Raises 422 or 409."""
    if len(labels) > BLOCKS_MAX:
        raise Invalid(f"blocks: an agent has at most {BLOCKS_MAX} of them, not {len(labels)}")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise Refused(f"An agent's blocks have different labels; {twice[0]!r} stands twice.")


async def do_on_agent(services: Services, agent_id: str, command: Command) -> None:
    """Have a command carried out. Raises 404 for an agent that there is not."""
    try:
        await services.execute(agent_id, command, "user")
    except NotFound as error:
        raise missing_agent(agent_id) if error.what == "Agent" else error from error


def missing_agent(agent_id: str) -> ApiError:
    """Give what is said of an agent that there is not."""
    return ApiError(404, f"Agent with ID {agent_id} not found")


async def agent_answer(services: Services, agent_id: str, include: frozenset[str]) -> AgentAnswer:
    """Give an agent with some relations filled in. Raises 404."""
    row = await row_of(services, "agent", agent_id)
    if row is None:
        raise missing_agent(agent_id)
    return await shown_agent(services, row, include)


async def shown_agent(
    services: Services, row: dict[str, Any], include: frozenset[str]
) -> AgentAnswer:
    """Give the agent of a row with some relations filled in. Raises 404 if it has gone since."""
    shown = await shown_agents(services, [row], include)
    if not shown:
        raise missing_agent(row["agent_id"])
    shown[0].message_ids = await window_ids(services, default_conversation(row["agent_id"]))
    return shown[0]


async def shown_agents(
    services: Services, rows: Sequence[dict[str, Any]], include: frozenset[str]
) -> list[AgentAnswer]:
    """Give the agents of a list, but those that have been deleted since it was read.

    What is in their windows is not told: each would have to be folded.
    """
    ids = [row["agent_id"] for row in rows]
    states, last_runs = await asyncio.gather(
        services.execute.agents(ids), _last_runs(services, ids)
    )
    return [
        await _shown(services, row, state, include, last_runs.get(row["agent_id"]))
        for row, state in zip(rows, states, strict=True)
        if state.settings is not None and not state.deleted
    ]


async def _shown(
    services: Services,
    row: dict[str, Any],
    state: Agent,
    include: frozenset[str],
    last_run: tuple[str, str] | None,
) -> AgentAnswer:
    settings = state.settings
    if settings is None:
        raise missing_agent(row["agent_id"])
    blocks = await memory_blocks(services, state) if "agent.blocks" in include else []
    known = settings.model_dump(exclude=NOT_SHOWN_AS_STORED)
    own = default_conversation(row["agent_id"])
    approval = "agent.pending_approval" in include
    completed_at, stop_reason = last_run or (None, None)
    return AgentAnswer(
        id=row["agent_id"],
        blocks=blocks,
        memory=MemoryAnswer(blocks=blocks, agent_type=settings.agent_type),
        tags=list(settings.tags) if "agent.tags" in include else [],
        tools=shown_tools(services, settings) if "agent.tools" in include else [],
        tool_rules=rules_of(settings),
        sleeptime_settings=shown_sleeptime(settings),
        managed_group=shown_group(row["agent_id"], settings)
        if "agent.managed_group" in include
        else None,
        llm_config=_llm_config(services, settings),
        compaction_settings=compaction_settings_of(services, settings),
        pending_approval=await pending_approval(services, own) if approval else None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_run_completion=None if completed_at is None else datetime.fromisoformat(completed_at),
        last_stop_reason=stop_reason,
        **known,
    )


async def _last_runs(services: Services, agent_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Tell when a run of each agent was over last, in whichever conversation, and why it ended."""
    if not agent_ids:
        return {}
    rows = await services.log.query(
        "SELECT agent_id, max(last_run_completion || ' ' || last_stop_reason) AS last_run "  # noqa: S608 - only question marks
        f"FROM conversations WHERE agent_id IN ({question_marks(agent_ids)}) "
        "AND deleted = 0 AND last_run_completion IS NOT NULL GROUP BY agent_id",
        agent_ids,
    )
    # What is joined is of one run: its moment has always the same length.
    ended = ((row["agent_id"], row["last_run"].partition(" ")) for row in rows)
    return {agent_id: (completed_at, reason) for agent_id, (completed_at, _, reason) in ended}


async def pending_approval(services: Services, stream: str) -> ApprovalRequestMessage | None:
    """Give the message whose calls wait for the client in a conversation."""
    asked = (await services.execute.conversation(stream)).asked
    if asked is None:
        return None
    s = min(call.s for call in asked.calls)
    page = Page(after=s - 1, before=s + 1, newest_first=False)
    log = services.log
    items = await log.in_reader(lambda: messages_page(log.store, stream, page))
    return next((one for one in items if one["message_type"] == "approval_request_message"), None)


async def living_agent(services: Services, agent_id: str) -> Agent:
    """Give an agent that is there. Raises 404."""
    state = await services.execute.agent(agent_id)
    if state.settings is None or state.deleted:
        raise missing_agent(agent_id)
    return state


async def memory_blocks(services: Services, state: Agent) -> list[BlockAnswer]:
    """Give an agent's blocks in the order they were attached."""
    found = await memory_of(services.execute, state)
    return list(await asyncio.gather(*(shown_block(services, one.block_id) for one in found)))


def _llm_config(services: Services, settings: AgentSettings) -> LlmConfigAnswer:
    try:
        found = services.catalogue.resolve(settings.model)
        provider, name, window = found.provider_type, found.model, found.context_window
    except (UnknownHandle, MalformedHandle):
        # Its provider has lost its key since: the agent is still there to be looked at.
        provider, _, name = settings.model.partition("/")
        window = CONTEXT_WINDOW
    return LlmConfigAnswer(
        model=name,
        model_endpoint_type=provider,
        context_window=min(window, settings.context_window_limit or window),
        handle=settings.model,
        display_name=name,
        provider_name=provider,
        **as_llm_config(settings.model_settings),
    )


def compaction_settings_of(services: Services, settings: AgentSettings) -> CompactionSettings:
    """Give settings in full, also for an agent that never had any stored."""
    percentage = services.settings.sliding_window_percentage
    return complete(settings.model, settings.compaction_settings, percentage)


def relations(request: Request, include: Sequence[str] | None) -> frozenset[str]:
    """Tell what to fill in: newer clients ask for it, older ones expect all (contract 1)."""
    if include is not None:
        return frozenset(include)
    return frozenset() if SDK_HEADER in request.headers else ALL
