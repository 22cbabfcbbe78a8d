"""MCP servers: the operator's, to be looked at. Nothing of them is made or changed over HTTP."""

from typing import Any, Final
from urllib.parse import urlsplit

from app.mcp_config import StdioServer
from app.tools import SEPARATOR
from app.tools.mcp import Connection
from app.web.endpoint import McpServerId, ToolId, endpoint
from app.web.errors import NO_RETRY, ApiError, NotYet
from app.web.services import Services
from app.web.tool_answers import server_id, shown_tool
from app.web.tool_bodies import McpServerAnswer, ToolAnswer
from domain.errors import NotFound

OPERATORS: Final = (
    "MCP servers are the operator's: they start processes and reach into networks. They are "
    "configured with EVERLOG_MCP_SERVERS"
)
RUNS_ONLY: Final = (
    "tools run inside runs only, where each call is recorded; attach the tool to an agent and send "
    "it a message"
)


async def list_mcp_servers(services: Services) -> list[McpServerAnswer]:
    """List the MCP servers that are configured."""
    return [_shown(one) for one in services.mcp.connections]


async def retrieve_mcp_server(services: Services, mcp_server_id: McpServerId) -> McpServerAnswer:
    """Give an MCP server."""
    return _shown(_found(services, mcp_server_id))


async def list_mcp_tools(services: Services, mcp_server_id: McpServerId) -> list[ToolAnswer]:
    """List an MCP server's tools, as it last listed them."""
    found = _found(services, mcp_server_id)
    return [shown_tool(tool, services.toolbox) for tool in found.tools.values()]


async def retrieve_mcp_tool(
    services: Services, mcp_server_id: McpServerId, tool_id: ToolId
) -> ToolAnswer:
    """Give a tool of an MCP server."""
    for tool in await list_mcp_tools(services, mcp_server_id):
        if tool.id == tool_id:
            return tool
    raise NotFound("Tool", tool_id)


def _found(services: Services, identity: str) -> Connection:
    for one in services.mcp.connections:
        if server_id(one.name) == identity:
            return one
    raise NotFound("MCP server", identity)


def _shown(one: Connection) -> McpServerAnswer:
    server, shown = one.server, {"id": server_id(one.name), "server_name": one.name}
    more: dict[str, Any] = {"connected": one.connected, "problem": one.problem}
    if isinstance(server, StdioServer):
        return McpServerAnswer(
            **shown, **more, mcp_server_type="stdio", command=server.command, args=[]
        )
    url = urlsplit(server.url)
    host = url.netloc.rpartition("@")[2]
    plain = f"{url.scheme}://{host}{url.path}"
    return McpServerAnswer(**shown, **more, mcp_server_type="streamable_http", server_url=plain)


async def create_mcp_server(services: Services) -> McpServerAnswer:  # noqa: ARG001 - what endpoints are given
    """Add an MCP server: not done here."""
    raise NotYet(OPERATORS)


async def update_mcp_server(services: Services, mcp_server_id: McpServerId) -> McpServerAnswer:
    """Change an MCP server: not done here."""
    _found(services, mcp_server_id)
    raise NotYet(OPERATORS)


async def delete_mcp_server(services: Services, mcp_server_id: McpServerId) -> dict[str, Any]:
    """Take an MCP server away: not done here."""
    _found(services, mcp_server_id)
    raise NotYet(OPERATORS)


async def refresh_mcp_server(services: Services, mcp_server_id: McpServerId) -> dict[str, Any]:
    """Have an MCP server list its tools again, or be reached again; tell what has changed.

    One that is away is 503, and its tools stay as it last listed them.
    """
    found = _found(services, mcp_server_id)
    await services.toolbox.settle([f"{found.name}{SEPARATOR}"])
    before = dict(found.tools)
    if not await found.refresh():
        why = found.problem or "it does not answer"
        text = (
            f"The MCP server {found.name!r} is away ({why}). The server goes on trying to reach it; "
            "until then its tools stay as it last listed them."
        )
        # Tried again by the client at once, it would still be away.
        raise ApiError(503, text, headers=NO_RETRY)
    after = found.tools
    return {
        "added": [name for name in after if name not in before],
        "updated": [
            name for name in after if name in before and before[name].schema != after[name].schema
        ],
        "deleted": [name for name in before if name not in after],
    }


async def run_mcp_tool(
    services: Services, mcp_server_id: McpServerId, tool_id: ToolId
) -> dict[str, Any]:
    """Run a tool outside a run: not done here."""
    await retrieve_mcp_tool(services, mcp_server_id, tool_id)
    raise NotYet(RUNS_ONLY)


ROOT: Final = "/v1/mcp-servers/"
ONE: Final = "/v1/mcp-servers/{mcp_server_id}"
TOOLS: Final = f"{ONE}/tools"
_JSON: Final = dict[str, Any]
ENDPOINTS: Final = [
    endpoint("GET", ROOT, list_mcp_servers, list[McpServerAnswer], tag="mcp"),
    endpoint("POST", ROOT, create_mcp_server, McpServerAnswer, tag="mcp", errors=(501,)),
    endpoint("GET", ONE, retrieve_mcp_server, McpServerAnswer, tag="mcp", errors=(404,)),
    endpoint("PATCH", ONE, update_mcp_server, McpServerAnswer, tag="mcp", errors=(404, 501)),
    endpoint("DELETE", ONE, delete_mcp_server, _JSON, tag="mcp", errors=(404, 501)),
    endpoint("PATCH", f"{ONE}/refresh", refresh_mcp_server, _JSON, tag="mcp", errors=(404, 503)),
    endpoint("GET", TOOLS, list_mcp_tools, list[ToolAnswer], tag="mcp", errors=(404,)),
    endpoint(
        "GET", f"{TOOLS}/{{tool_id}}", retrieve_mcp_tool, ToolAnswer, tag="mcp", errors=(404,)
    ),
    endpoint("POST", f"{TOOLS}/{{tool_id}}/run", run_mcp_tool, _JSON, tag="mcp", errors=(404, 501)),
]
