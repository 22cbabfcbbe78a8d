"""Tools and MCP servers as requests and answers hold them."""

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from app.web.bodies import Answer, Body, Cursor, Limit, Name, Order
from domain.agent import TOOLS_MAX
from domain.streams import TOOL, pattern_of

FILTER_MAX: Final = 256
ToolIds: TypeAlias = Annotated[
    list[Annotated[str, Field(pattern=pattern_of(TOOL))]], Field(max_length=TOOLS_MAX)
]
Names: TypeAlias = Annotated[list[Name], Field(max_length=FILTER_MAX)]


class ToolAnswer(Answer):
    """A tool as clients see it; its id follows from its name. None has code that can be seen."""

    id: str
    name: str
    description: str | None = None
    json_schema: dict[str, Any] | None = None
    args_json_schema: dict[str, Any] | None = None
    tool_type: str
    tags: list[str] = Field(default_factory=list)
    default_requires_approval: bool | None = None
    enable_parallel_execution: bool = False
    return_char_limit: int | None = None
    source_type: str | None = None
    source_code: str | None = None
    pip_requirements: list[dict[str, Any]] | None = None
    npm_requirements: list[dict[str, Any]] | None = None
    metadata_: dict[str, Any] | None = None
    project_id: str | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None


class ListAgentTools(Body):
    """Which of an agent's tools. Cursors are ids and follow the order."""

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 50
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"


class ListTools(ListAgentTools):
    """Which tools; several values of a filter stand as repeated keys or between commas."""

    name: Name | None = None
    names: Names | None = None
    tool_ids: Names | None = None
    tool_types: Names | None = None
    exclude_tool_types: Names | None = None
    search: Name | None = None
    return_only_letta_tools: bool | None = None


class SearchTools(Body):
    """What to look for in names and descriptions; every tool if there is no query."""

    query: Name | None = None
    search_mode: Literal["vector", "fts", "hybrid"] = "hybrid"
    tool_types: Names | None = None
    tags: Names | None = None
    limit: Limit = 50


class FoundTool(Answer):
    """A tool that matches."""

    tool: ToolAnswer
    embedded_text: str | None = None
    fts_rank: int
    vector_rank: int | None = None
    combined_score: float


class RequireApproval(Body):
    """Whether a tool runs only with the client's approval."""

    requires_approval: bool


class ApprovalQuery(Body):
    """The same as in the body, as older clients say it."""

    requires_approval: bool | None = None


class McpServerAnswer(Answer):
    """An MCP server as clients see it: nothing that may be secret.

    `args`, `env` and headers are not shown, nor what follows the path of a URL. `problem` is why it
    is away, if it is.
    """

    id: str
    server_name: str
    mcp_server_type: Literal["stdio", "streamable_http"]
    command: str | None = None
    args: list[str] | None = None
    env: dict[str, str] | None = None
    server_url: str | None = None
    auth_header: str | None = None
    auth_token: str | None = None
    custom_headers: dict[str, str] | None = None
    connected: bool
    problem: str | None = None
