"""An agent's core memory: its blocks by label, attached and detached."""

from typing import Final

from starlette.requests import Request

from app.web.agent_answers import (
    ALL,
    agent_answer,
    check_labels,
    do_on_agent,
    living_agent,
    memory_blocks,
    relations,
    shown_agents,
)
from app.web.agent_bodies import AgentAnswer, ListBlockAgents
from app.web.block_bodies import BlockAnswer, ListCoreBlocks, UpdateBlock
from app.web.blocks import change_block, shown_block
from app.web.endpoint import AgentId, BlockId, Label, endpoint
from app.web.errors import ApiError
from app.web.pages import Selection, page_of
from app.web.recompiling import recompile_own
from app.web.services import Services
from domain import agent as domain


async def list_core_blocks(
    services: Services, agent_id: AgentId, query: ListCoreBlocks
) -> list[BlockAnswer]:
    """List an agent's memory blocks; both cursors follow the order."""
    blocks = await _core_blocks(services, agent_id)
    if query.order == "desc":
        blocks.reverse()
    return page_of(blocks, [one.id for one in blocks], query, "Block")


async def _core_blocks(services: Services, agent_id: str) -> list[BlockAnswer]:
    return await memory_blocks(services, await living_agent(services, agent_id))


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
    """Change one of an agent's memory blocks; its own conversation is told, others keep their prompt."""
    found = await _labelled(services, agent_id, block_label)
    if body.label is not None and body.label != block_label:
        others = await _core_blocks(services, agent_id)
        check_labels([body.label, *(one.label for one in others if one.id != found.id)])
    await change_block(services, found.id, body)
    await recompile_own(services, agent_id)
    return await shown_block(services, found.id)


async def attach_block(services: Services, agent_id: AgentId, block_id: BlockId) -> AgentAnswer:
    """Put a block into an agent's memory; of its conversations only its own is told."""
    fresh = await shown_block(services, block_id)
    present = await _core_blocks(services, agent_id)
    check_labels([fresh.label, *(one.label for one in present if one.id != block_id)])
    await do_on_agent(services, agent_id, domain.AttachBlock(block_id))
    await recompile_own(services, agent_id)
    return await agent_answer(services, agent_id, ALL)


async def detach_block(services: Services, agent_id: AgentId, block_id: BlockId) -> AgentAnswer:
    """Take a block out of an agent's memory; of its conversations only its own is told."""
    await do_on_agent(services, agent_id, domain.DetachBlock(block_id))
    await recompile_own(services, agent_id)
    return await agent_answer(services, agent_id, ALL)


async def list_block_agents(
    services: Services, block_id: BlockId, query: ListBlockAgents, request: Request
) -> list[AgentAnswer]:
    """List the agents that have a block in their memory."""
    await shown_block(services, block_id)
    selection = Selection("agent")
    selection.holding(block_id)
    rows = await selection.page(
        services, after=query.after, before=query.before, order=query.order, limit=query.limit
    )
    include = relations(request, query.include)
    return await shown_agents(services, rows, include)


CORE: Final = "/v1/agents/{agent_id}/core-memory/blocks"
LABELLED: Final = f"{CORE}/{{block_label:path}}"
ENDPOINTS: Final = [
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
    endpoint(
        "GET",
        "/v1/blocks/{block_id}/agents",
        list_block_agents,
        list[AgentAnswer],
        tag="blocks",
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
