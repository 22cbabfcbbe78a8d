"""An agent's memory as it stands: its blocks, and the system prompt compiled from them.

A conversation may have copies of some blocks to itself; to it they are the agent's blocks.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType
from typing import Final, cast

from app.execute import Execute
from domain.agent import Agent
from domain.block import Block, CreateBlock, DeleteBlock
from domain.conversation import Conversation, Counts, System
from domain.errors import NotFound, Refused
from domain.streams import BLOCK, archive_of, derived_id
from projections.system import MemoryBlock, compiled

# From a block of the agent to the copy that stands for it in a conversation.
Isolated = Mapping[str, str]
SHARED: Final[Isolated] = MappingProxyType({})


async def memory_of(execute: Execute, agent: Agent) -> list[MemoryBlock]:
    """Give an agent's blocks in the order they were attached; deleted ones are gone from it."""
    ids = () if agent.settings is None else agent.settings.block_ids
    return await _blocks(execute, ids)


async def blocks_of(
    execute: Execute, agent: Agent, conversation_state: Conversation
) -> list[MemoryBlock]:
    """Give the blocks that an agent has in a conversation: its own, or the conversation's copies."""
    return await _isolated_memory(execute, agent, conversation_state.isolated)


async def _isolated_memory(execute: Execute, agent: Agent, isolated: Isolated) -> list[MemoryBlock]:
    """Give the agent's blocks, copies in their place; a copy outlives what it was made from."""
    ids = () if agent.settings is None else agent.settings.block_ids
    here = [isolated.get(one, one) for one in ids]
    return await _blocks(execute, dict.fromkeys([*here, *isolated.values()]))


async def _blocks(execute: Execute, block_ids: Iterable[str]) -> list[MemoryBlock]:
    ids = tuple(block_ids)
    states = await asyncio.gather(*(execute.state(one) for one in ids))
    return [
        MemoryBlock(block_id, version, block.settings)
        for block_id, (version, found) in zip(ids, states, strict=True)
        if (block := cast("Block", found)).settings is not None and not block.deleted
    ]


async def isolate(
    execute: Execute, blocks: Sequence[MemoryBlock], beginning: str
) -> dict[str, str]:
    """Copy blocks for one conversation's beginning: the same copies if it is done again."""
    copies = {one.block_id: derived_id(BLOCK, f"{beginning}/{one.block_id}") for one in blocks}
    for one in blocks:
        settings = one.settings.model_copy(update={"hidden": True})
        with suppress(Refused):  # it was copied by the same request before
            await execute(copies[one.block_id], CreateBlock(settings), "user")
    return copies


async def drop_copies(execute: Execute, isolated: Isolated) -> None:
    """Delete the blocks that only a conversation had, which is gone itself."""
    for block_id in isolated.values():
        with suppress(NotFound):
            await execute(block_id, DeleteBlock(), "user")


async def compile_system(  # noqa: PLR0913 - what a prompt is compiled from
    execute: Execute,
    agent_id: str,
    conversation_id: str,
    at: datetime,
    counts: Counts,
    *,
    isolated: Isolated = SHARED,
) -> System:
    """Compile the system prompt of a conversation. Raises NotFound for an agent that is not."""
    version, found = await execute.state(agent_id)
    agent = cast("Agent", found)
    if agent.settings is None or agent.deleted:
        raise NotFound("Agent", agent_id)
    blocks = await _isolated_memory(execute, agent, isolated)
    archive = await execute.archive(archive_of(agent_id))
    counts = counts.model_copy(update={"passages": archive.passages})
    text = compiled(
        agent.settings,
        blocks,
        agent_id=agent_id,
        conversation_id=conversation_id,
        at=at,
        counts=counts,
        archive_tags=sorted(archive.tags),
    )
    return System(text=text, agent_version=version, blocks=versions_of(blocks), counts=counts)


def versions_of(blocks: Sequence[MemoryBlock]) -> dict[str, tuple[str, int]]:
    """Name each block by its label, and by its id as well where the label is taken.

    Two of an agent's blocks come to share a label when one is relabelled on its own route.
    """
    used: dict[str, tuple[str, int]] = {}
    for one in blocks:
        label = one.settings.label
        name = f"{label} ({one.block_id})" if label in used else label
        used[name] = (one.block_id, one.version)
    return used
