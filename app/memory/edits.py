"""What a model writes into its memory, recorded once for each of its calls."""

import asyncio

from app.execute import Execute
from app.memory.blocks import blocks_of
from app.tools import Call, ToolFailed
from app.tools.memory import excerpt_of
from domain.block import BlockSettings, EditBlock
from domain.block_edits import Edit, Misplaced
from domain.errors import NotFound, Refused
from domain.run import Cause
from projections.system import MemoryBlock


class Remembering:
    """The memory of whatever conversation a call comes from."""

    def __init__(self, execute: Execute, *, by: str) -> None:
        self._execute = execute
        self._by = by

    async def edit(self, call: Call, label: str, edit: Edit) -> BlockSettings:
        """Edit a block, once however often the call is run; give it as it is now.

        Raises ToolFailed: for a label that there is not, and for what the block refuses.
        """
        cause = Cause(stream=call.conversation_id, offset=call.started_at)
        block_id = await self._target(call, label, cause)
        try:
            await self._execute(block_id, EditBlock(edit, cause), self._by)
        except NotFound:
            raise ToolFailed(f"The block {label!r} has just been deleted.") from None
        except Misplaced as error:
            raise ToolFailed(f"{error} {excerpt_of(await self._now(block_id))}") from None
        except Refused as error:
            raise ToolFailed(f"The block {label!r} stays as it is. {error}") from None
        return await self._now(block_id)

    async def _target(self, call: Call, label: str, cause: Cause) -> str:
        """Find the block that a call means: the one that it has edited already, else by the label."""
        conversation = await self._execute.conversation(call.conversation_id)
        agent = await self._execute.agent(conversation.agent_id or "")
        blocks = await blocks_of(self._execute, agent, conversation)
        states = await asyncio.gather(*(self._execute.block(one.block_id) for one in blocks))
        for one, state in zip(blocks, states, strict=True):
            # Its label may have gone to another block since.
            if cause in state.causes:
                return one.block_id
        for one in blocks:
            if one.settings.label == label:
                return one.block_id
        raise ToolFailed(f"There is no block {label!r} in your memory; {_those(blocks)}.")

    async def _now(self, block_id: str) -> BlockSettings:
        settings = (await self._execute.block(block_id)).settings
        if settings is None:
            raise NotFound("Block", block_id)
        return settings


def _those(blocks: list[MemoryBlock]) -> str:
    """Name the blocks there are, as a model is to call them."""
    named = [
        f"{one.settings.label!r}{' (read-only)' if one.settings.read_only else ''}"
        for one in blocks
    ]
    return f"there are: {', '.join(named)}" if named else "it has none"
