"""Memory blocks: create, list, retrieve, update, delete."""

from typing import Any, Final, cast
from uuid import uuid4

from app.web.block_bodies import BlockAnswer, CreateBlock, ListBlocks, UpdateBlock
from app.web.bodies import Body
from app.web.endpoint import BlockId, endpoint
from app.web.errors import NO_RETRY, ApiError
from app.web.pages import Selection, row_of
from app.web.services import Services
from domain import block as domain
from domain.block import BlockSettings
from domain.errors import NotFound
from domain.event import Recorded
from domain.streams import BLOCK, id_of


async def create_block(services: Services, body: CreateBlock) -> BlockAnswer:
    """Make a block."""
    return await shown_block(services, await new_block(services, body))


async def new_block(services: Services, body: CreateBlock) -> str:
    """Make a block; give its id."""
    block_id = id_of(BLOCK, uuid4())
    settings = BlockSettings(**changes_of(body))
    await services.execute(block_id, domain.CreateBlock(settings), "user")
    return block_id


def changes_of(body: Body) -> dict[str, Any]:
    """Give what a request set, in the domain's types; null sets nothing."""
    sent = body.model_dump(exclude_unset=True, exclude_none=True)
    return {name: _frozen(value) for name, value in sent.items()}


def _frozen(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


async def shown_block(services: Services, block_id: str) -> BlockAnswer:
    """Give a block as clients see it. Raises NotFound."""
    row = await row_of(services, "block", block_id)
    if row is None:
        raise NotFound("Block", block_id)
    return await _shown(services, row)


async def _shown(services: Services, row: dict[str, Any]) -> BlockAnswer:
    state = await services.execute.block(row["block_id"])
    if state.settings is None:
        raise NotFound("Block", row["block_id"])
    return BlockAnswer(
        id=row["block_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        **state.settings.model_dump(),
    )


async def retrieve_block(services: Services, block_id: BlockId) -> BlockAnswer:
    """Give a block."""
    return await shown_block(services, block_id)


async def list_blocks(services: Services, query: ListBlocks) -> list[BlockAnswer]:
    """List blocks."""
    selection = Selection("block")
    if not query.show_hidden_blocks:
        selection.add("coalesce(hidden, 0) = 0")
    if _asks_for_what_no_block_has(query):
        selection.add("1 = 0")
    selection.equal("label", query.label)
    selection.containing("label", query.label_search)
    selection.containing("description", query.description_search)
    selection.containing("value", query.value_search)
    selection.tagged(query.tags, all_of_them=query.match_all_tags)
    selection.held_by(
        exactly=query.connected_to_agents_count_eq,
        more_than=query.connected_to_agents_count_gt,
        less_than=query.connected_to_agents_count_lt,
    )
    rows = await selection.page(
        services, after=query.after, before=query.before, order=query.order, limit=query.limit
    )
    return [await _shown(services, row) for row in rows]


def _asks_for_what_no_block_has(query: ListBlocks) -> bool:
    """Tell whether only templates are asked for, which have names, or blocks of a project or identity."""
    owners = (query.name, query.project_id, query.identity_id)
    return (
        query.templates_only
        or bool(query.identifier_keys)
        or any(one is not None for one in owners)
    )


async def update_block(services: Services, block_id: BlockId, body: UpdateBlock) -> BlockAnswer:
    """Change a block; conversations keep the prompt they have."""
    await change_block(services, block_id, body)
    return await shown_block(services, block_id)


async def change_block(services: Services, block_id: str, body: UpdateBlock) -> None:
    """Set what a request sets. Raises NotFound, and 409 if it is based on another version."""
    changes = changes_of(body)
    base_version = changes.pop("base_version", None)
    await carry_out(services, block_id, domain.ChangeBlock(changes, base_version))


async def carry_out(
    services: Services, block_id: str, command: domain.ChangeBlock
) -> list[Recorded[Any]]:
    """Have a change made; give its fact, [] if it changed nothing.

    Raises NotFound, and 409 with the version of a block that has moved on.
    """
    try:
        return await services.execute(block_id, command, "user")
    except domain.BlockMoved as error:
        text = f"CONFLICT: {error}"
        raise ApiError(409, text, headers=NO_RETRY, version=error.version) from error
    except NotFound as error:
        raise NotFound("Block", block_id) from error


async def delete_block(services: Services, block_id: BlockId) -> dict[str, str]:
    """Put an end to a block; agents that had it go on without."""
    try:
        await services.execute(block_id, domain.DeleteBlock(), "user")
    except NotFound as error:
        raise NotFound("Block", block_id) from error
    return {"message": f"Block id={block_id} successfully deleted"}


ROOT: Final = "/v1/blocks/"
ONE: Final = "/v1/blocks/{block_id}"
ENDPOINTS: Final = [
    endpoint("POST", ROOT, create_block, BlockAnswer, tag="blocks"),
    endpoint("GET", ROOT, list_blocks, list[BlockAnswer], tag="blocks", errors=(404,)),
    endpoint("GET", ONE, retrieve_block, BlockAnswer, tag="blocks", errors=(404,)),
    endpoint("PATCH", ONE, update_block, BlockAnswer, tag="blocks", errors=(404, 409)),
    endpoint("DELETE", ONE, delete_block, dict[str, str], tag="blocks", errors=(404,)),
]
