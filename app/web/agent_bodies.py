"""Agents as requests and answers hold them."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from app.compaction.settings import CompactionSettingsIn
from app.model_settings import ModelSettings
from app.web.block_bodies import BlockAnswer, BlockValue, CreateBlock, Description, Tags
from app.web.bodies import (
    Answer,
    Body,
    Cursor,
    Handle,
    Limit,
    Name,
    Order,
    WindowLimit,
)
from app.web.consolidation_bodies import Frequency, SleeptimeAnswer, SleeptimeIn
from app.web.message_bodies import MessageIn
from app.web.tool_bodies import ToolAnswer, ToolIds
from domain.compaction import CompactionSettings
from domain.conversation import IMPORTED_MESSAGES_MAX
from domain.run import StopReason
from domain.streams import BLOCK, pattern_of
from projections.passages import known_zone
from projections.wire import ApprovalRequestMessage

BLOCKS_MAX: Final = 64
BlockIds: TypeAlias = Annotated[
    list[Annotated[str, Field(pattern=pattern_of(BLOCK))]], Field(max_length=BLOCKS_MAX)
]

_SECRETS: Final = "what tools need to know is in the operator's configuration of their MCP servers"
_FILES: Final = "put text into memory blocks or the archive"
_TEMPLATES: Final = "bring in an agent's file, POST /v1/agents/import"
_THINKING: Final = "say in `model_settings` how the model is to think"
# What this version would have to ignore, and what to do instead; a value that asks for nothing is fine.
UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "secrets": _SECRETS,
        "tool_exec_environment_variables": _SECRETS,
        "source_ids": _FILES,
        "folder_ids": _FILES,
        "identity_ids": "use `tags` or `metadata`",
        "from_template": _TEMPLATES,
        "template_id": _TEMPLATES,
        "llm_config": "send `model`, a handle provider/name, and `model_settings`",
        "response_format": "send it in `model_settings`",
        "max_tokens": "send `max_output_tokens` in `model_settings`",
        "reasoning": _THINKING,
        "max_reasoning_tokens": _THINKING,
        "message_ids": "send `initial_message_sequence`",
    }
)
AgentType: TypeAlias = Literal[
    "memgpt_agent",
    "memgpt_v2_agent",
    "letta_v1_agent",
    "react_agent",
    "workflow_agent",
    "split_thread_agent",
    "sleeptime_agent",
    "voice_convo_agent",
    "voice_sleeptime_agent",
]


def _known_zone(name: str) -> str:
    if known_zone(name) is None:
        raise ValueError("not a time zone; one is called, say, Europe/Vienna or UTC")
    return name


class ToolRule(Body):
    """A rule about a tool."""

    type: Name
    tool_name: Name = ""


class AgentFields(Body):
    """What can be said of an agent when it is made and later on."""

    name: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    description: Description | None = None
    system: BlockValue | None = None
    tags: Tags | None = None
    metadata: dict[str, Any] | None = None
    timezone: Annotated[Name, AfterValidator(_known_zone)] | None = None
    context_window_limit: WindowLimit | None = None
    model: Handle | None = None
    model_settings: ModelSettings | None = None
    compaction_settings: CompactionSettingsIn | None = None
    embedding: Handle | None = None
    message_buffer_autoclear: bool | None = None
    hidden: bool | None = None
    block_ids: BlockIds | None = None
    tools: Annotated[list[Name], Field(max_length=128)] | None = None
    tool_ids: ToolIds | None = None
    tool_rules: Annotated[list[ToolRule], Field(max_length=128)] | None = None
    enable_sleeptime: bool | None = None
    sleeptime_agent_frequency: Frequency | None = None
    sleeptime_settings: SleeptimeIn | None = None
    # Of the fields below only values that ask for nothing are taken.
    secrets: dict[str, Any] | None = None
    tool_exec_environment_variables: dict[str, Any] | None = None
    source_ids: list[Any] | None = None
    folder_ids: list[Any] | None = None
    identity_ids: list[Any] | None = None
    from_template: str | None = None
    template_id: str | None = None
    llm_config: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = None
    reasoning: bool | None = None
    max_reasoning_tokens: int | None = None
    message_ids: list[Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bounded_the_new_way(cls, given: Any) -> Any:
        """Letta Code 0.34.12 bounds a reply in the older way as well: take the newer one's place."""
        match given:
            case {"max_tokens": int(bound), "model_settings": {**settings}, **others}:
                settings.setdefault("max_output_tokens", bound)
                return {**others, "model_settings": settings}
            case _:
                return given


def _said(messages: list[MessageIn]) -> list[MessageIn]:
    for one in messages:
        if one.type != "message":
            raise ValueError(f"an {one.type} answers what nobody has asked yet")
    return messages


InitialMessages: TypeAlias = Annotated[
    list[MessageIn], Field(max_length=IMPORTED_MESSAGES_MAX), AfterValidator(_said)
]


class CreateAgent(AgentFields):
    """An agent to make. Beside its `tools` it has the base tools, unless `include_base_tools` is false.

    Its own conversation begins with `initial_message_sequence`.
    """

    agent_type: AgentType | None = None
    memory_blocks: Annotated[list[CreateBlock], Field(max_length=BLOCKS_MAX)] | None = None
    include_base_tools: bool | None = None
    initial_message_sequence: InitialMessages | None = None


class UpdateAgent(AgentFields):
    """What to change; null changes nothing. `model_settings` take the place of all that there were."""


Relation: TypeAlias = Literal[
    "agent.blocks",
    "agent.identities",
    "agent.managed_group",
    "agent.pending_approval",
    "agent.secrets",
    "agent.sources",
    "agent.tags",
    "agent.tools",
]
Relations: TypeAlias = Annotated[list[Relation], Field(max_length=32)]


class RetrieveAgent(Body):
    """Which relations to fill in."""

    include: Relations | None = None


AgentOrder: TypeAlias = Literal["created_at", "updated_at", "last_run_completion"]


class ListAgents(Body):
    """Which agents. Cursors follow the sort order.

    `ascending` is an older name of `order`, `sort_by` of `order_by`. Agents here come from no
    template and belong to no project, identity or user: asked for one that does, the list is empty.
    """

    name: Name | None = None
    tags: Tags | None = None
    match_all_tags: bool = False
    query_text: Name | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 50
    order: Order = "desc"
    order_by: AgentOrder = "created_at"
    sort_by: AgentOrder | None = None
    ascending: bool | None = None
    include: Relations | None = None
    last_stop_reason: StopReason | None = None
    base_template_id: Name | None = None
    template_id: Name | None = None
    project_id: Name | None = None
    identity_id: Name | None = None
    identifier_keys: Annotated[list[Name], Field(max_length=32)] | None = None
    created_by_id: Name | None = None


class ListBlockAgents(Body):
    """Which of the agents that have a block. Cursors follow the sort order."""

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 50
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    include: Annotated[list[Name], Field(max_length=32)] | None = None


class MemoryAnswer(Answer):
    """An agent's core memory."""

    blocks: list[BlockAnswer]
    file_blocks: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    agent_type: str | None = None
    git_enabled: bool | None = None
    prompt_template: str = ""


class LlmConfigAnswer(Answer):
    """A model as old clients read it, and of its settings what is set."""

    model: str
    model_endpoint_type: str
    context_window: int
    handle: str | None = None
    display_name: str | None = None
    model_endpoint: str | None = None
    provider_name: str | None = None
    provider_category: str = "base"
    temperature: float | None = None
    max_tokens: int | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    enable_reasoner: bool | None = None
    max_reasoning_tokens: int | None = None
    effort: str | None = None
    verbosity: str | None = None
    response_format: dict[str, Any] | None = None
    strict: bool | None = None
    tool_call_parser: str | None = None
    put_inner_thoughts_in_kwargs: bool = False
    compatibility_type: str | None = None
    frequency_penalty: float | None = None
    model_wrapper: str | None = None
    return_logprobs: bool | None = None
    return_token_ids: bool | None = None
    tier: str | None = None
    top_logprobs: int | None = None


class AgentAnswer(Answer):
    """An agent as clients see it.

    `message_ids` are in the window of its own conversation; in lists they are null.
    """

    id: str
    name: str
    agent_type: str
    system: str
    model: str
    model_settings: dict[str, Any] | None = None
    llm_config: LlmConfigAnswer
    memory: MemoryAnswer
    blocks: list[BlockAnswer]
    tags: list[str]
    tools: list[ToolAnswer] = Field(default_factory=list[ToolAnswer])
    sources: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    tool_rules: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    identity_ids: list[str] = Field(default_factory=list)
    identities: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    secrets: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    message_ids: list[str] | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    timezone: str | None = None
    context_window_limit: int | None = None
    compaction_settings: CompactionSettings
    embedding: str | None = None
    embedding_config: dict[str, Any] | None = None
    message_buffer_autoclear: bool = False
    enable_sleeptime: bool | None = None
    sleeptime_settings: SleeptimeAnswer | None = None
    hidden: bool | None = None
    pending_approval: ApprovalRequestMessage | None = None
    managed_group: dict[str, Any] | None = None
    last_run_completion: datetime | None = None
    last_stop_reason: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    # Nothing here has these; clients find all of an agent's keys there.
    last_run_duration_ms: int | None = None
    multi_agent_group: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    tool_exec_environment_variables: list[dict[str, Any]] = Field(
        default_factory=list[dict[str, Any]]
    )
    max_files_open: int | None = None
    per_file_view_window_char_limit: int | None = None
    project_id: str | None = None
    template_id: str | None = None
    base_template_id: str | None = None
    deployment_id: str | None = None
    entity_id: str | None = None
