"""The server's tools: which there are. They are the operator's, so nobody else makes any."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from app.web.endpoint import ToolId, endpoint
from app.web.errors import NotYet
from app.web.pages import page_of
from app.web.services import Services
from app.web.tool_answers import shown_tool
from app.web.tool_bodies import FoundTool, ListAgentTools, ListTools, SearchTools, ToolAnswer
from domain.errors import NotFound

NO_CODE: Final = (
    "this server runs no code that callers upload. Its operator configures MCP servers, whose "
    "tools are listed here; or send a request with client_tools, and run them yourself"
)
_WORDS: Final = re.compile(r"\w+")


async def list_tools(services: Services, query: ListTools) -> list[ToolAnswer]:
    """List the tools that there are."""
    shown = [one for one in _all(services) if _wanted(one, query)]
    return tool_page(shown, query)


def _all(services: Services) -> list[ToolAnswer]:
    return [shown_tool(tool, services.toolbox) for tool in services.toolbox]


def tool_page(tools: Sequence[ToolAnswer], query: ListAgentTools) -> list[ToolAnswer]:
    """Cut a page out of a list of tools in the order they came to be. Raises NotFound."""
    ordered = tools if query.order == "asc" else tools[::-1]
    return page_of(ordered, [one.id for one in ordered], query, "Tool")


def _wanted(tool: ToolAnswer, query: ListTools) -> bool:
    names = _values(query.names) | ({query.name} if query.name else set[str]())
    ids, kinds = _values(query.tool_ids), _values(query.tool_types)
    return (
        (not names or tool.name in names)
        and (not ids or tool.id in ids)
        and (not kinds or tool.tool_type in kinds)
        and tool.tool_type not in _values(query.exclude_tool_types)
        and (query.search or "").casefold() in tool.name.casefold()
        and (not query.return_only_letta_tools or tool.tool_type.startswith("letta"))
    )


def _values(given: Iterable[str] | None) -> set[str]:
    return {value for one in given or () for value in one.split(",") if value}


async def retrieve_tool(services: Services, tool_id: ToolId) -> ToolAnswer:
    """Give a tool."""
    for tool in _all(services):
        if tool.id == tool_id:
            return tool
    raise NotFound("Tool", tool_id)


async def search_tools(services: Services, body: SearchTools) -> list[FoundTool]:
    """Search the tools by words of their names and descriptions."""
    if body.search_mode == "vector":
        raise NotYet("search_mode: tools are searched by their words only; say fts or hybrid")
    wanted = _terms(body.query or "")
    kinds, tags = set(body.tool_types or ()), set(body.tags or ())
    scored = [
        (_score(tool, wanted), tool)
        for tool in _all(services)
        if (not kinds or tool.tool_type in kinds) and (not tags or tags & set(tool.tags))
    ]
    best = sorted((one for one in scored if one[0]), key=lambda one: -one[0])[: body.limit]
    return [
        FoundTool(tool=tool, fts_rank=rank, combined_score=score, embedded_text=tool.description)
        for rank, (score, tool) in enumerate(best, 1)
    ]


def _terms(text: str) -> set[str]:
    return set(_WORDS.findall(text.casefold().replace("_", " ")))


def _score(tool: ToolAnswer, wanted: set[str]) -> float:
    """Tell which share of the words occurs; those in the name count in full."""
    if not wanted:
        return 1.0
    named, told = _terms(tool.name), _terms(tool.description or "")
    return sum(1.0 if one in named else 0.5 for one in wanted if one in named | told) / len(wanted)


async def create_tool(services: Services) -> ToolAnswer:  # noqa: ARG001 - what endpoints are given
    """Make a tool of uploaded code: not done here."""
    raise NotYet(NO_CODE)


async def upsert_tool(services: Services) -> ToolAnswer:  # noqa: ARG001 - what endpoints are given
    """Make or change a tool of uploaded code: not done here."""
    raise NotYet(NO_CODE)


async def update_tool(services: Services, tool_id: ToolId) -> ToolAnswer:
    """Change a tool: not done here."""
    await retrieve_tool(services, tool_id)
    raise NotYet(NO_CODE)


async def delete_tool(services: Services, tool_id: ToolId) -> dict[str, Any]:
    """Delete a tool: not done here."""
    await retrieve_tool(services, tool_id)
    raise NotYet("tools are the operator's, so they cannot be deleted; detach it from the agent")


ROOT: Final = "/v1/tools/"
ONE: Final = "/v1/tools/{tool_id}"
ENDPOINTS: Final = [
    endpoint("GET", ROOT, list_tools, list[ToolAnswer], tag="tools", errors=(404,)),
    endpoint("POST", ROOT, create_tool, ToolAnswer, tag="tools", errors=(501,)),
    endpoint("PUT", ROOT, upsert_tool, ToolAnswer, tag="tools", errors=(501,)),
    endpoint("POST", "/v1/tools/search", search_tools, list[FoundTool], tag="tools", errors=(501,)),
    endpoint("GET", ONE, retrieve_tool, ToolAnswer, tag="tools", errors=(404,)),
    endpoint("PATCH", ONE, update_tool, ToolAnswer, tag="tools", errors=(404, 501)),
    endpoint("DELETE", ONE, delete_tool, dict[str, Any], tag="tools", errors=(404, 501)),
]
