"""An agent's memory as it stands: its blocks, and the system prompt compiled from them."""

import asyncio
from datetime import datetime
from typing import cast

from app.execute import Execute
from domain.agent import Agent
from domain.block import Block
from domain.conversation import Counts, System
from domain.errors import NotFound
from projections.system import MemoryBlock, compiled


async def memory_of(execute: Execute, agent: Agent) -> list[MemoryBlock]:
    """Give an agent's blocks in the order they were attached; deleted ones are gone from it."""
    ids = () if agent.settings is None else agent.settings.block_ids
    states = await asyncio.gather(*(execute.state(one) for one in ids))
    return [
        MemoryBlock(block_id, version, block.settings)
        for block_id, (version, found) in zip(ids, states, strict=True)
        if (block := cast("Block", found)).settings is not None and not block.deleted
    ]


async def compile_system(
    execute: Execute, agent_id: str, conversation_id: str, at: datetime, counts: Counts
) -> System:
    """Compile the system prompt of a conversation. Raises NotFound for an agent that is not."""
    version, found = await execute.state(agent_id)
    agent = cast("Agent", found)
    if agent.settings is None or agent.deleted:
        raise NotFound("Agent", agent_id)
    blocks = await memory_of(execute, agent)
    text = compiled(
        agent.settings,
        blocks,
        agent_id=agent_id,
        conversation_id=conversation_id,
        at=at,
        counts=counts,
    )
    return System(text=text, agent_version=version, blocks=_versions_of(blocks), counts=counts)


def _versions_of(blocks: list[MemoryBlock]) -> dict[str, tuple[str, int]]:
    """Name each block by its label, and by its id as well where the label is taken.

    Two of an agent's blocks come to share a label when one is relabelled on its own route.
    """
    used: dict[str, tuple[str, int]] = {}
    for one in blocks:
        label = one.settings.label
        name = f"{label} ({one.block_id})" if label in used else label
        used[name] = (one.block_id, one.version)
    return used
