"""Agents: create, retrieve, list, update, delete."""

import asyncio
from functools import partial
from typing import Any, Final
from uuid import uuid4

from starlette.requests import Request

from app.compaction.settings import complete, initial, updated
from app.web.agent_answers import (
    ALL,
    agent_answer,
    check_labels,
    do_on_agent,
    living_agent,
    relations,
    shown_agents,
)
from app.web.agent_bodies import (
    UNSUPPORTED,
    AgentAnswer,
    AgentFields,
    CreateAgent,
    ListAgents,
    RetrieveAgent,
    UpdateAgent,
)
from app.web.agent_sleeptime import sleeptime_merge
from app.web.agent_tools import tool_merge
from app.web.blocks import changes_of, new_block, shown_block
from app.web.conversations import put_an_end
from app.web.endpoint import AgentId, endpoint
from app.web.errors import ApiError, NotYet
from app.web.lookups import conversation_at
from app.web.message_bodies import MessageIn
from app.web.pages import Selection
from app.web.recompiling import recompile_own
from app.web.services import Services
from domain import agent as domain
from domain.agent import AgentSettings
from domain.conversation import ImportMessages, SaidMessage
from domain.errors import NotFound
from domain.streams import AGENT, RUN, derived_id, id_of
from projections.system import DEFAULT_SYSTEM

DELETE_PAGE: Final = 100
# What a new agent can do with its memory, unless it is made without.
BASE_TOOLS: Final = ("conversation_search", "memory_insert", "memory_replace")
# What of an agent its system prompt is compiled from.
COMPILED: Final = frozenset({"system", "block_ids"})
# The key of the run that an agent's first messages come in with.
INITIAL: Final = "initial"
LAST_RUN: Final = (
    "LEFT JOIN (SELECT agent_id AS of_agent, max(last_run_completion) AS last_run_completion, "
    "max(last_run_completion || ' ' || last_stop_reason) AS last_run "
    "FROM conversations WHERE deleted = 0 GROUP BY agent_id) AS ended "
    "ON ended.of_agent = agents.agent_id"
)
NOT_OF_OURS: Final = (
    "base_template_id",
    "template_id",
    "project_id",
    "identity_id",
    "identifier_keys",
    "created_by_id",
)


async def create_agent(services: Services, body: CreateAgent) -> AgentAnswer:
    """Make an agent, and its blocks before it."""
    _turn_down(body)
    if body.model is None:
        raise ApiError(400, "INVALID_ARGUMENT: model is required: a handle, provider/name")
    services.catalogue.resolve(body.model)
    block_ids = await _blocks_for(services, body)
    agent_id = id_of(AGENT, uuid4())
    settings: dict[str, Any] = {
        "name": f"agent-{agent_id.rsplit('-', 1)[1]}",
        "system": DEFAULT_SYSTEM,
        **_settings_of(body),
        **_with_base_tools(tool_merge(services, body)(None), body.include_base_tools),
        **sleeptime_merge(services, body)(None),
        "block_ids": block_ids,
        "compaction_settings": initial(
            body.model, body.compaction_settings, services.settings.sliding_window_percentage
        ).model_dump(),
    }
    await do_on_agent(services, agent_id, domain.CreateAgent(AgentSettings(**settings)))
    if body.initial_message_sequence:
        await _begin_with(services, agent_id, body.initial_message_sequence)
    return await agent_answer(services, agent_id, ALL)


def _with_base_tools(changes: dict[str, Any], wanted: bool | None) -> dict[str, Any]:
    """Put the base tools before those asked for; null does not leave them out."""
    base = () if wanted is False else BASE_TOOLS
    return {**changes, "tools": tuple(dict.fromkeys((*base, *changes.get("tools", ()))))}


async def _begin_with(services: Services, agent_id: str, messages: list[MessageIn]) -> None:
    """Begin an agent's own conversation with messages that nobody is to answer."""
    stream, _ = await conversation_at(services, agent_id, None, begin=True)
    said = tuple(
        SaidMessage(one.role, one.content if isinstance(one.content, str) else tuple(one.content))
        for one in messages
        if one.role is not None and one.content is not None
    )
    run_id = derived_id(RUN, f"{stream}/{INITIAL}")
    await services.execute(stream, ImportMessages(run_id, INITIAL, "", said), "user")


def _turn_down(body: AgentFields) -> None:
    """Refuse what would have to be ignored."""
    for name, instead in UNSUPPORTED.items():
        if getattr(body, name):
            raise NotYet(f"{name}: this version cannot do that; {instead}")


def _settings_of(body: AgentFields) -> dict[str, Any]:
    ours = AgentSettings.model_fields.keys() - {"tools", "compaction_settings"}
    return {name: value for name, value in changes_of(body).items() if name in ours}


async def _blocks_for(services: Services, body: CreateAgent) -> tuple[str, ...]:
    """Check the blocks to attach, then make the new ones, in one commit."""
    attached = await asyncio.gather(
        *(shown_block(services, one) for one in dict.fromkeys(body.block_ids or []))
    )
    fresh = body.memory_blocks or []
    check_labels([*(one.label for one in attached), *(one.label for one in fresh)])
    made = await asyncio.gather(*(new_block(services, one) for one in fresh))
    return (*(one.id for one in attached), *made)


async def retrieve_agent(
    services: Services, agent_id: AgentId, query: RetrieveAgent, request: Request
) -> AgentAnswer:
    """Give an agent."""
    return await agent_answer(services, agent_id, relations(request, query.include))


async def list_agents(services: Services, query: ListAgents, request: Request) -> list[AgentAnswer]:
    """List agents."""
    by = query.sort_by or query.order_by
    selection = Selection("agent")
    if by == "last_run_completion" or query.last_stop_reason is not None:
        selection.joined(LAST_RUN)
    if query.last_stop_reason is not None:
        selection.add("last_run = last_run_completion || ' ' || ?", query.last_stop_reason)
    if any(getattr(query, name) for name in NOT_OF_OURS):
        selection.add("1 = 0")
    selection.add("coalesce(hidden, 0) = 0")
    selection.equal("name", query.name)
    selection.containing("name", query.query_text)
    selection.tagged(query.tags, all_of_them=query.match_all_tags)
    order = query.order if query.ascending is None else ("desc", "asc")[query.ascending]
    rows = await selection.page(
        services, after=query.after, before=query.before, order=order, limit=query.limit, by=by
    )
    include = relations(request, query.include)
    return await shown_agents(services, rows, include)


async def update_agent(services: Services, agent_id: AgentId, body: UpdateAgent) -> AgentAnswer:
    """Change an agent; its own conversation is told, others keep their prompt, runs their model."""
    _turn_down(body)
    state = await living_agent(services, agent_id)
    changes = _settings_of(body)
    # What rests on the settings there are is worked out when the change is decided: of two at once
    # none may take back the other.
    merges = (
        tool_merge(services, body, state.settings),
        sleeptime_merge(services, body),
        partial(_compaction_changes, body, services.settings.sliding_window_percentage),
    )
    if body.model is not None:
        services.catalogue.resolve(body.model)
    if body.block_ids is not None:
        changes["block_ids"] = tuple(dict.fromkeys(body.block_ids))
        found = await asyncio.gather(*(shown_block(services, one) for one in changes["block_ids"]))
        check_labels([one.label for one in found])
    await do_on_agent(services, agent_id, domain.ChangeAgent(changes, merges))
    if changes.keys() & COMPILED:
        await recompile_own(services, agent_id)
    return await agent_answer(services, agent_id, ALL)


def _compaction_changes(body: UpdateAgent, percentage: float, now: AgentSettings) -> dict[str, Any]:
    """Change what was sent, and what follows from the model; settings never stored stay so."""
    model = body.model or now.model
    untouched = now.compaction_settings is None or model == now.model
    if body.compaction_settings is None and untouched:
        return {}
    settings = updated(
        complete(now.model, now.compaction_settings, percentage),
        body.compaction_settings,
        models=(now.model, model),
        percentage=percentage,
    )
    return {"compaction_settings": settings.model_dump()}


async def delete_agent(services: Services, agent_id: AgentId) -> dict[str, str]:
    """Put an end to an agent, its conversations and its archive; after a crash in between, ask again."""
    await living_agent(services, agent_id)
    sql = "SELECT conversation_id FROM conversations WHERE agent_id = ? AND deleted = 0 LIMIT ?"
    while rows := await services.log.query(sql, (agent_id, DELETE_PAGE)):
        await asyncio.gather(*(_delete(services, row["conversation_id"]) for row in rows))
    await services.archival.end(agent_id, by="user")
    await do_on_agent(services, agent_id, domain.DeleteAgent())
    return {"message": f"Agent id={agent_id} successfully deleted"}


async def _delete(services: Services, conversation_id: str) -> None:
    try:
        await put_an_end(services, conversation_id)
    except NotFound:
        return


ROOT: Final = "/v1/agents/"
ONE: Final = "/v1/agents/{agent_id}"
ENDPOINTS: Final = [
    endpoint("POST", ROOT, create_agent, AgentAnswer, tag="agents", errors=(400, 404, 409, 501)),
    endpoint("GET", ROOT, list_agents, list[AgentAnswer], tag="agents", errors=(404,)),
    endpoint("GET", ONE, retrieve_agent, AgentAnswer, tag="agents", errors=(404,)),
    endpoint("PATCH", ONE, update_agent, AgentAnswer, tag="agents", errors=(400, 404, 409, 501)),
    endpoint("DELETE", ONE, delete_agent, dict[str, str], tag="agents", errors=(404,)),
]
