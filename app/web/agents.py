"""Agents and their core memory: create, retrieve, list, update, delete; blocks by label."""

import asyncio
from typing import Any, Final
from uuid import uuid4

from starlette.requests import Request

from app.compaction_settings import complete, initial, updated
from app.memory import memory_of
from app.providers.catalogue import CONTEXT_WINDOW, MalformedHandle, UnknownHandle
from app.web.agent_bodies import (
    BLOCKS_MAX,
    UNSUPPORTED,
    AgentAnswer,
    AgentFields,
    CreateAgent,
    ListAgents,
    LlmConfigAnswer,
    MemoryAnswer,
    RetrieveAgent,
    UpdateAgent,
)
from app.web.agent_tools import shown_rules, shown_tools, tool_changes
from app.web.block_bodies import BlockAnswer, ListCoreBlocks, UpdateBlock
from app.web.blocks import change_block, changes_of, new_block, shown_block
from app.web.endpoint import AgentId, BlockId, Label, endpoint
from app.web.errors import ApiError, Invalid, NotYet
from app.web.pages import Selection, page_of, row_of
from app.web.services import Services
from domain import agent as domain
from domain.agent import Agent, AgentSettings
from domain.compaction import CompactionSettings
from domain.conversation import DeleteConversation
from domain.errors import NotFound, Refused
from domain.event import Command
from domain.streams import AGENT, id_of
from projections.system import DEFAULT_SYSTEM

SDK_HEADER: Final = "x-stainless-package-version"
DELETE_PAGE: Final = 100
NOT_SHOWN_AS_STORED: Final = {
    "approval_tools",
    "block_ids",
    "compaction_settings",
    "tags",
    "tools",
}
ALL: Final = frozenset({"agent.blocks", "agent.tags", "agent.tools"})


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
        **tool_changes(services, body),
        "block_ids": block_ids,
        "compaction_settings": initial(
            body.model, body.compaction_settings, services.settings.sliding_window_percentage
        ).model_dump(),
    }
    await _do(services, agent_id, domain.CreateAgent(AgentSettings(**settings)))
    return await _answer(services, agent_id, ALL)


def _turn_down(body: AgentFields) -> None:
    """Refuse what would have to be ignored."""
    for name in UNSUPPORTED:
        if getattr(body, name):
            raise NotYet(f"{name}: this version cannot do that; leave it out")


def _settings_of(body: AgentFields) -> dict[str, Any]:
    ours = AgentSettings.model_fields.keys() - {"tools", "compaction_settings"}
    return {name: value for name, value in changes_of(body).items() if name in ours}


async def _blocks_for(services: Services, body: CreateAgent) -> tuple[str, ...]:
    """Check the blocks to attach, then make the new ones, in one commit."""
    attached = await asyncio.gather(
        *(shown_block(services, one) for one in dict.fromkeys(body.block_ids or []))
    )
    fresh = body.memory_blocks or []
    _check_labels([*(one.label for one in attached), *(one.label for one in fresh)])
    made = await asyncio.gather(*(new_block(services, one) for one in fresh))
    return (*(one.id for one in attached), *made)


def _check_labels(labels: list[str]) -> None:
    """Check the blocks that an agent would have. Raises 422 or 409."""
    if len(labels) > BLOCKS_MAX:
        raise Invalid(f"blocks: an agent has at most {BLOCKS_MAX} of them, not {len(labels)}")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise Refused(f"An agent's blocks have different labels; {twice[0]!r} stands twice.")


async def _do(services: Services, agent_id: str, command: Command) -> None:
    try:
        await services.execute(agent_id, command, "user")
    except NotFound as error:
        raise _missing(agent_id) if error.what == "Agent" else error from error


def _missing(agent_id: str) -> ApiError:
    return ApiError(404, f"Agent with ID {agent_id} not found")


# --- as clients see them ----------------------------------------------------------------------


async def _answer(services: Services, agent_id: str, include: frozenset[str]) -> AgentAnswer:
    row = await row_of(services, "agent", agent_id)
    if row is None:
        raise _missing(agent_id)
    return await _shown(services, row, include)


async def _shown(services: Services, row: dict[str, Any], include: frozenset[str]) -> AgentAnswer:
    state = await _living(services, row["agent_id"])
    settings = state.settings
    if settings is None:
        raise _missing(row["agent_id"])
    wanted = "agent.blocks" in include
    blocks = await _memory(services, state) if wanted else []
    known = settings.model_dump(exclude=NOT_SHOWN_AS_STORED)
    return AgentAnswer(
        id=row["agent_id"],
        blocks=blocks,
        memory=MemoryAnswer(blocks=blocks, agent_type=settings.agent_type),
        tags=list(settings.tags) if "agent.tags" in include else [],
        tools=shown_tools(services, settings) if "agent.tools" in include else [],
        tool_rules=shown_rules(settings),
        llm_config=_llm_config(services, settings),
        compaction_settings=_compaction_settings(services, settings),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        **known,
    )


async def _living(services: Services, agent_id: str) -> Agent:
    state = await services.execute.agent(agent_id)
    if state.settings is None or state.deleted:
        raise _missing(agent_id)
    return state


async def _memory(services: Services, state: Agent) -> list[BlockAnswer]:
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
    )


def _compaction_settings(services: Services, settings: AgentSettings) -> CompactionSettings:
    percentage = services.settings.sliding_window_percentage
    return complete(settings.model, settings.compaction_settings, percentage)


def _relations(request: Request, include: list[str] | None) -> frozenset[str]:
    """Tell what to fill in: newer clients ask for it, older ones expect all (contract 1)."""
    if include is not None:
        return frozenset(include)
    return frozenset() if SDK_HEADER in request.headers else ALL


async def retrieve_agent(
    services: Services, agent_id: AgentId, query: RetrieveAgent, request: Request
) -> AgentAnswer:
    """Give an agent."""
    return await _answer(services, agent_id, _relations(request, query.include))


async def list_agents(services: Services, query: ListAgents, request: Request) -> list[AgentAnswer]:
    """List agents."""
    selection = Selection("agent")
    selection.add("coalesce(hidden, 0) = 0")
    selection.equal("name", query.name)
    selection.containing("name", query.query_text)
    selection.tagged(query.tags, all_of_them=query.match_all_tags)
    order = query.order if query.ascending is None else ("desc", "asc")[query.ascending]
    rows = await selection.page(
        services, after=query.after, before=query.before, order=order, limit=query.limit
    )
    include = _relations(request, query.include)
    return [await _shown(services, row, include) for row in rows]


async def update_agent(services: Services, agent_id: AgentId, body: UpdateAgent) -> AgentAnswer:
    """Change an agent; conversations keep the prompt they have, runs under way their model."""
    _turn_down(body)
    state = await _living(services, agent_id)
    changes = {**_settings_of(body), **tool_changes(services, body)}
    if body.model is not None:
        services.catalogue.resolve(body.model)
    if body.block_ids is not None:
        changes["block_ids"] = tuple(dict.fromkeys(body.block_ids))
        found = await asyncio.gather(*(shown_block(services, one) for one in changes["block_ids"]))
        _check_labels([one.label for one in found])
    if state.settings is not None:
        changes |= _compaction_changes(services, state.settings, body)
    await _do(services, agent_id, domain.ChangeAgent(changes))
    return await _answer(services, agent_id, ALL)


def _compaction_changes(
    services: Services, now: AgentSettings, body: UpdateAgent
) -> dict[str, Any]:
    """Change what was sent, and what follows from the model; settings never stored stay so."""
    model = body.model or now.model
    untouched = now.compaction_settings is None or model == now.model
    if body.compaction_settings is None and untouched:
        return {}
    settings = updated(
        _compaction_settings(services, now),
        body.compaction_settings,
        models=(now.model, model),
        percentage=services.settings.sliding_window_percentage,
    )
    return {"compaction_settings": settings.model_dump()}


async def delete_agent(services: Services, agent_id: AgentId) -> dict[str, str]:
    """Put an end to an agent and its conversations; after a crash in between, ask again."""
    await _living(services, agent_id)
    sql = "SELECT conversation_id FROM conversations WHERE agent_id = ? AND deleted = 0 LIMIT ?"
    while rows := await services.log.query(sql, (agent_id, DELETE_PAGE)):
        await asyncio.gather(*(_delete(services, row["conversation_id"]) for row in rows))
    await _do(services, agent_id, domain.DeleteAgent())
    return {"message": f"Agent id={agent_id} successfully deleted"}


async def _delete(services: Services, conversation_id: str) -> None:
    try:
        await services.execute(conversation_id, DeleteConversation(), "user")
    except NotFound:
        return


# --- core memory ------------------------------------------------------------------------------


async def list_core_blocks(
    services: Services, agent_id: AgentId, query: ListCoreBlocks
) -> list[BlockAnswer]:
    """List an agent's memory blocks; both cursors follow the order."""
    blocks = await _core_blocks(services, agent_id)
    if query.order == "desc":
        blocks.reverse()
    return page_of(blocks, [one.id for one in blocks], query, "Block")


async def _core_blocks(services: Services, agent_id: str) -> list[BlockAnswer]:
    return await _memory(services, await _living(services, agent_id))


async def _labelled(services: Services, agent_id: str, label: str) -> BlockAnswer:
    for one in await _core_blocks(services, agent_id):
        if one.label == label:
            return one
    raise ApiError(404, f"Block with label {label!r} not found in agent {agent_id}")


async def retrieve_core_block(
    services: Services, agent_id: AgentId, block_label: Label
) -> BlockAnswer:
    """Give one of an agent's memory blocks by its label."""
    return await _labelled(services, agent_id, block_label)


async def update_core_block(
    services: Services, agent_id: AgentId, block_label: Label, body: UpdateBlock
) -> BlockAnswer:
    """Change one of an agent's memory blocks; conversations keep the prompt they have."""
    found = await _labelled(services, agent_id, block_label)
    if body.label is not None and body.label != block_label:
        others = await _core_blocks(services, agent_id)
        _check_labels([body.label, *(one.label for one in others if one.id != found.id)])
    await change_block(services, found.id, body)
    return await shown_block(services, found.id)


async def attach_block(services: Services, agent_id: AgentId, block_id: BlockId) -> AgentAnswer:
    """Put a block into an agent's memory."""
    fresh = await shown_block(services, block_id)
    present = await _core_blocks(services, agent_id)
    _check_labels([fresh.label, *(one.label for one in present if one.id != block_id)])
    await _do(services, agent_id, domain.AttachBlock(block_id))
    return await _answer(services, agent_id, ALL)


async def detach_block(services: Services, agent_id: AgentId, block_id: BlockId) -> AgentAnswer:
    """Take a block out of an agent's memory."""
    await _do(services, agent_id, domain.DetachBlock(block_id))
    return await _answer(services, agent_id, ALL)


ROOT: Final = "/v1/agents/"
ONE: Final = "/v1/agents/{agent_id}"
CORE: Final = "/v1/agents/{agent_id}/core-memory/blocks"
LABELLED: Final = f"{CORE}/{{block_label:path}}"
ENDPOINTS: Final = [
    endpoint("POST", ROOT, create_agent, AgentAnswer, tag="agents", errors=(400, 404, 409, 501)),
    endpoint("GET", ROOT, list_agents, list[AgentAnswer], tag="agents", errors=(404,)),
    endpoint("GET", ONE, retrieve_agent, AgentAnswer, tag="agents", errors=(404,)),
    endpoint("PATCH", ONE, update_agent, AgentAnswer, tag="agents", errors=(400, 404, 409, 501)),
    endpoint("DELETE", ONE, delete_agent, dict[str, str], tag="agents", errors=(404,)),
    endpoint("GET", CORE, list_core_blocks, list[BlockAnswer], tag="memory", errors=(404,)),
    endpoint(
        "PATCH",
        f"{CORE}/attach/{{block_id}}",
        attach_block,
        AgentAnswer,
        tag="memory",
        errors=(404, 409),
    ),
    endpoint(
        "PATCH",
        f"{CORE}/detach/{{block_id}}",
        detach_block,
        AgentAnswer,
        tag="memory",
        errors=(404,),
    ),
    # Last, as a label may have slashes in it.
    endpoint(
        "GET",
        LABELLED,
        retrieve_core_block,
        BlockAnswer,
        tag="memory",
        errors=(404,),
    ),
    endpoint(
        "PATCH",
        LABELLED,
        update_core_block,
        BlockAnswer,
        tag="memory",
        errors=(404, 409),
    ),
]
