"""Tools as clients see them, whoever has them."""

from typing import Final

from app.tools import Tool, Toolbox
from app.tools.mcp import McpTool
from app.web.services import Services
from app.web.tool_bodies import ToolAnswer
from domain.agent import AgentSettings
from domain.streams import MCP_SERVER, TOOL, derived_id

MCP: Final = "external_mcp"
# Which kind a tool of our own would have been in the original; the rest are built in.
KINDS: Final = (
    ("conversation_search", "letta_core"),
    ("archival_memory_", "letta_core"),
    ("memory_", "letta_memory_core"),
)


def tool_id(name: str) -> str:
    """Give the id of the tool of a name: always and everywhere the same."""
    return derived_id(TOOL, name)


def server_id(name: str) -> str:
    """Give the id of the MCP server of a name."""
    return derived_id(MCP_SERVER, name)


def shown_tool(tool: Tool, toolbox: Toolbox) -> ToolAnswer:
    """Give a tool."""
    schema = tool.schema
    parameters = schema.parameters or {"type": "object", "properties": {}}
    server = tool.server if isinstance(tool, McpTool) else None
    return ToolAnswer(
        id=tool_id(schema.name),
        name=schema.name,
        description=schema.description,
        json_schema={
            "name": schema.name,
            "description": schema.description,
            "parameters": parameters,
        },
        args_json_schema=parameters,
        tool_type=_kind(schema.name) if server is None else MCP,
        tags=[] if server is None else [f"mcp:{server}"],
        default_requires_approval=toolbox.gates(schema.name),
        metadata_=None if server is None else {"mcp": _origin(server)},
    )


def _kind(name: str) -> str:
    return next((kind for prefix, kind in KINDS if name.startswith(prefix)), "letta_builtin")


def _origin(server: str) -> dict[str, str]:
    return {"server_name": server, "server_id": server_id(server)}


def shown_tools(services: Services, settings: AgentSettings) -> list[ToolAnswer]:
    """Give an agent's tools, in the order it was given them, also those that are away."""
    return [_named(services.toolbox, name) for name in settings.tools]


def _named(toolbox: Toolbox, name: str) -> ToolAnswer:
    tool = toolbox.get(name)
    if tool is not None:
        return shown_tool(tool, toolbox)
    kind = _kind(name) if toolbox.source_of(name) is None else MCP
    words = "This tool is not there now, so the model is not offered it."
    return ToolAnswer(id=tool_id(name), name=name, description=words, tool_type=kind)
