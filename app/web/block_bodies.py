"""Memory blocks as requests and answers hold them."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor, Limit, Name, Order, without_nul
from domain.block import BLOCK_LIMIT_DEFAULT, VALUE_CHARS_MAX

Label: TypeAlias = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(without_nul)]
BlockValue: TypeAlias = Annotated[
    str, Field(max_length=VALUE_CHARS_MAX), AfterValidator(without_nul)
]
Description: TypeAlias = Annotated[str, Field(max_length=16 * 1024), AfterValidator(without_nul)]
Tags: TypeAlias = Annotated[list[Label], Field(max_length=256)]
AgentCount: TypeAlias = Annotated[int, Field(ge=0, le=2**31)]
CharLimit: TypeAlias = Annotated[int, Field(gt=0, le=2**31)]


class CreateBlock(Body):
    """A block to make. `limit` is shown to the model, in characters."""

    label: Label
    value: BlockValue = ""
    limit: CharLimit = BLOCK_LIMIT_DEFAULT
    description: Description | None = None
    read_only: bool = False
    metadata: dict[str, Any] | None = None
    tags: Tags | None = None
    hidden: bool | None = None


class UpdateBlock(Body):
    """What to change; null changes nothing.

    With `base_version` it is refused if the block is at another version by now.
    """

    base_version: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None
    label: Label | None = None
    value: BlockValue | None = None
    limit: CharLimit | None = None
    description: Description | None = None
    read_only: bool | None = None
    metadata: dict[str, Any] | None = None
    tags: Tags | None = None
    hidden: bool | None = None


class ListBlocks(Body):
    """Which blocks. Cursors follow the sort order."""

    label: Name | None = None
    name: Name | None = None
    tags: Tags | None = None
    match_all_tags: bool = False
    identity_id: Name | None = None
    identifier_keys: Annotated[list[Name], Field(max_length=64)] | None = None
    project_id: Name | None = None
    templates_only: bool = False
    connected_to_agents_count_eq: Annotated[list[AgentCount], Field(max_length=16)] | None = None
    connected_to_agents_count_gt: AgentCount | None = None
    connected_to_agents_count_lt: AgentCount | None = None
    label_search: Name | None = None
    description_search: Name | None = None
    value_search: Name | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 50
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    show_hidden_blocks: bool = False


class ListCoreBlocks(Body):
    """Which of an agent's blocks, in the order they were attached or the reverse of it."""

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class BlockAnswer(Answer):
    """A block as clients see it."""

    id: str
    label: str
    value: str
    limit: int
    description: str | None = None
    read_only: bool = False
    metadata: dict[str, Any] | None = None
    tags: list[str] = Field(default_factory=list)
    hidden: bool | None = None
    is_template: bool = False
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None
    preserve_on_migration: bool | None = None
    project_id: str | None = None
    template_id: str | None = None
    template_name: str | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
