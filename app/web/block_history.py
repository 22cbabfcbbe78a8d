"""Blocks in time: every version with what led to it, back to one, and what a prompt was made of."""

import asyncio
from typing import Annotated, Final, TypeAlias

from pydantic import Field

from app.memory.blocks import blocks_of
from app.memory.versions import block_at, stamps, versions
from app.web.block_bodies import BlockAnswer
from app.web.blocks import carry_out, shown_block
from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor, Order
from app.web.endpoint import BlockId, endpoint
from app.web.errors import ApiError
from app.web.lookups import audited_stream, existing_stream
from app.web.message_bodies import AnyConversationId
from app.web.services import Services
from app.web.stream import checked_cursor
from domain.block import Block, BlockSettings, ChangeBlock
from domain.errors import NotFound
from projections.block_history import (
    BlockThen,
    BlockVersion,
    ConversationMemory,
    remembered,
)
from projections.system import MemoryBlock

VERSIONS_MAX: Final = 100
Version: TypeAlias = Annotated[int, Field(ge=1, le=OFFSET_MAX)]


class ListVersions(Body):
    """Which versions: those with `after < version < before`, the newest first.

    A page may hold fewer than asked for, as values can be large: go on from the last one of it,
    until a page is empty.
    """

    after: Annotated[int, Field(ge=0, le=OFFSET_MAX)] = 0
    before: Version | None = None
    limit: Annotated[int, Field(ge=0, le=VERSIONS_MAX)] = 50
    order: Order = "desc"
    deleted: bool = False


class VersionsAnswer(Answer):
    """A page of a block's versions; `head` is the newest there is."""

    versions: list[BlockVersion]
    head: int


class VersionQuery(Body):
    """Whether a deleted block may be looked at."""

    deleted: bool = False


class BlockAtVersion(BlockAnswer):
    """A block as it was at a version."""

    version: int
    deleted: bool


class RevertBlock(Body):
    """The version to make the block like again.

    With `base_version` it is refused if the block is at another one by now.
    """

    version: Version
    base_version: Version | None = None


class MemoryQuery(Body):
    """The memory at which offset; the newest if not said. `agent_id` says whose `default` is."""

    at: Version | None = None
    agent_id: Cursor | None = None
    deleted: bool = False


async def list_versions(
    services: Services, block_id: BlockId, query: ListVersions
) -> VersionsAnswer:
    """Give a block's history: what each version changed, when, and which tool call if any."""
    await existing_stream(services, block_id, "Block", deleted=query.deleted)
    head = await checked_cursor(services, block_id, query.after)
    first, last = query.after + 1, min(head, (query.before or head + 1) - 1)
    if query.order == "asc":
        last = min(last, query.after + query.limit)
    else:
        first = max(first, last - query.limit + 1)
    newest_first = query.order == "desc"
    store = services.log.store
    page = await services.log.in_reader(
        lambda: versions(store, block_id, first, last, newest_first=newest_first)
    )
    return VersionsAnswer(versions=page, head=head)


async def show_version(
    services: Services, block_id: BlockId, version: Version, query: VersionQuery
) -> BlockAtVersion:
    """Give a block as it was at a version."""
    await existing_stream(services, block_id, "Block", deleted=query.deleted)
    then = await _at(services, block_id, version)
    made, changed = await services.log.in_reader(
        lambda: stamps(services.log.store, block_id, version)
    )
    return BlockAtVersion(
        id=block_id,
        version=version,
        deleted=then.deleted,
        created_at=made,
        updated_at=changed,
        **_settings(block_id, then).model_dump(),
    )


async def revert_block(services: Services, block_id: BlockId, body: RevertBlock) -> BlockAnswer:
    """Make a block what it was at a version; all in between stays in its history."""
    await existing_stream(services, block_id, "Block", deleted=False)
    then = _settings(block_id, await _at(services, block_id, body.version))
    changes = {name: getattr(then, name) for name in BlockSettings.model_fields}
    command = ChangeBlock(changes, body.base_version, reverted_to=body.version)
    await carry_out(services, block_id, command)
    return await shown_block(services, block_id)


async def _at(services: Services, block_id: str, version: int) -> Block:
    """Give a block at a version. Raises 404 for one that it has not come to."""
    head, _ = await services.execute.state(block_id)
    if version > head:
        raise ApiError(404, f"Block {block_id} has no version {version}: it is at {head}")
    return await services.log.in_reader(lambda: block_at(services.log.store, block_id, version))


def _settings(block_id: str, block: Block) -> BlockSettings:
    if block.settings is None:
        raise NotFound("Block", block_id)
    return block.settings


async def show_memory(
    services: Services, conversation_id: AnyConversationId, query: MemoryQuery
) -> ConversationMemory:
    """Give the memory in the system prompt in force at an offset, and what has become of it."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    head = await checked_cursor(services, stream, query.at or 0)
    at = query.at or head
    found = (await services.windows.at(stream, at)).system
    if found is None:
        raise NotFound("Conversation", conversation_id)
    then, now = await asyncio.gather(
        _compiled_from(services, found.system.blocks), _blocks_now(services, stream)
    )
    blocks, added = remembered(then, now)
    return ConversationMemory(
        conversation_id=conversation_id,
        at=at,
        system_at=found.offset,
        agent_version=found.system.agent_version,
        blocks=blocks,
        added=added,
        stale=bool(added) or any(one.now is None or _changed(one.then, one.now) for one in blocks),
    )


def _changed(then: BlockThen, now: BlockThen) -> bool:
    return then.model_copy(update={"version": now.version}) != now


async def _compiled_from(
    services: Services, named: dict[str, tuple[str, int]]
) -> dict[str, MemoryBlock]:
    store = services.log.store

    def read() -> dict[str, MemoryBlock]:
        found = {
            name: (block_id, version, block_at(store, block_id, version).settings)
            for name, (block_id, version) in named.items()
        }
        return {name: MemoryBlock(one, at, s) for name, (one, at, s) in found.items() if s}

    return await services.log.in_reader(read)


async def _blocks_now(services: Services, stream: str) -> list[MemoryBlock]:
    conversation = await services.execute.conversation(stream)
    agent = await services.execute.agent(conversation.agent_id or "")
    return await blocks_of(services.execute, agent, conversation)


HISTORY: Final = "/v1/blocks/{block_id}/history"
ENDPOINTS: Final = [
    endpoint("GET", HISTORY, list_versions, VersionsAnswer, tag="history", errors=(404, 409)),
    endpoint(
        "GET", f"{HISTORY}/{{version}}", show_version, BlockAtVersion, tag="history", errors=(404,)
    ),
    endpoint(
        "POST",
        "/v1/blocks/{block_id}/revert",
        revert_block,
        BlockAnswer,
        tag="history",
        errors=(404, 409),
    ),
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/memory",
        show_memory,
        ConversationMemory,
        tag="history",
        errors=(404, 409),
    ),
]
