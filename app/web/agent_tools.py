"""The tools of an agent: which of the server's it has, and which of those need the client's word."""

from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from starlette.requests import Request

from app.tools.rules import EXIT_LOOP, REQUIRES_APPROVAL
from app.web.agent_answers import ALL, SDK_HEADER, agent_answer, do_on_agent, living_agent
from app.web.agent_bodies import AgentAnswer, AgentFields, ToolRule
from app.web.endpoint import AgentId, Label, ToolId, endpoint
from app.web.errors import RETRY_SOON, ApiError, Invalid, NotYet
from app.web.services import Services
from app.web.tool_answers import shown_tools, tool_id
from app.web.tool_bodies import ApprovalQuery, ListAgentTools, RequireApproval, ToolAnswer
from app.web.tools import tool_page
from domain.agent import TOOLS_MAX, AgentSettings, AttachTool, DetachTool, GateTool
from domain.errors import NotFound

# Letta Code 0.34.12 asks for these with every new agent, wherever its backend is.
HOSTED: Final = frozenset({"web_search", "fetch_webpage"})
# Agents of older types spoke by a tool; here a reply is what the model says.
SPOKEN: Final = "send_message"
# What older types of agents edited their memory with.
SUCCESSORS: Final = MappingProxyType(
    {"core_memory_append": "memory_insert", "core_memory_replace": "memory_replace"}
)
NAMES_TOLD_MAX: Final = 64
RUNS_ONLY: Final = (
    "tools run inside runs only, where each call is recorded; send the agent a message instead"
)


Named: TypeAlias = tuple[str, ...] | None


def tool_merge(
    services: Services, body: AgentFields, now: AgentSettings | None = None
) -> Callable[[AgentSettings | None], dict[str, Any]]:
    """Give how a request changes tools, over whatever there is. Raises 404 for an unknown one.

    A tool that the agent has already is taken even if it is away. Of Letta's rules those are known
    that ask for approval and that end the turn; others are 501.
    """
    had = () if now is None else now.tools
    tools: Named = None
    if body.tools is not None or body.tool_ids is not None:
        tools = _tools(services, body, had)
    if body.tool_rules is not None:
        _check_rules(services, body.tool_rules, {*had, *(tools or ())})
    by_default = frozenset(name for name in tools or () if services.toolbox.gates(name))
    return partial(_changes, tools, body.tool_rules, by_default)


def _changes(
    tools: Named,
    rules: Sequence[ToolRule] | None,
    by_default: Set[str],
    now: AgentSettings | None,
) -> dict[str, Any]:
    """Lay them over what there is; a tool that is new to the agent may need approval by default."""
    had, gated = ((), ()) if now is None else (now.tools, now.approval_tools)
    changes: dict[str, Any] = {} if tools is None else {"tools": tools}
    if rules is not None:
        gated = _named_by(rules, REQUIRES_APPROVAL)
        changes["approval_tools"] = gated
        changes["terminal_tools"] = _named_by(rules, EXIT_LOOP)
    if fresh := [name for name in tools or () if name in by_default and name not in had]:
        changes["approval_tools"] = tuple(dict.fromkeys((*gated, *fresh)))
    return changes


def _tools(services: Services, body: AgentFields, had: Iterable[str]) -> tuple[str, ...]:
    asked = [*(body.tools or ()), *(_name_of(services, one, had) for one in body.tool_ids or ())]
    names = tuple(one for one in dict.fromkeys(asked) if not _is_not_needed(services, one))
    for name in names:
        _check(services, name, had)
    if len(names) > TOOLS_MAX:
        raise Invalid(f"tools: an agent has at most {TOOLS_MAX} of them, not {len(names)}")
    return names


def _is_not_needed(services: Services, name: str) -> bool:
    """Tell whether a tool is only to be had from Letta's cloud, or only older agents needed it."""
    return name in {*HOSTED, SPOKEN} and services.toolbox.get(name) is None


def _check_rules(services: Services, rules: Iterable[ToolRule], known: Iterable[str]) -> None:
    for rule in rules:
        if rule.type not in (REQUIRES_APPROVAL, EXIT_LOOP):
            raise NotYet(
                f"tool_rules: this version knows no rule {rule.type[:64]!r}: a model chooses among "
                f"its tools freely; there are {REQUIRES_APPROVAL} and {EXIT_LOOP}"
            )
        _check(services, rule.tool_name, known)


def _named_by(rules: Iterable[ToolRule], kind: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.tool_name for rule in rules if rule.type == kind))


def _name_of(services: Services, wanted: str, known: Iterable[str]) -> str:
    """Give the name of the tool of an id. Raises NotFound."""
    for name in (*known, *services.toolbox.names):
        if tool_id(name) == wanted:
            return name
    raise NotFound("Tool", wanted)


def _check(services: Services, name: str, known: Iterable[str] = ()) -> None:
    """Check that a tool can be had. Raises 404, or 503 if its MCP server has not listed it yet."""
    if name in known or services.toolbox.get(name) is not None:
        return
    source = services.toolbox.source_of(name)
    if source is not None and not source.there:
        detail = f"The MCP server {source.name!r} is away, so its tools are not known."
        raise ApiError(503, detail, headers=RETRY_SOON)
    if name in SUCCESSORS:
        raise ApiError(404, f"NOT_FOUND: Tool {name!r} not found; use {SUCCESSORS[name]} instead")
    there = ", ".join(services.toolbox.names[:NAMES_TOLD_MAX])
    raise ApiError(404, f"NOT_FOUND: Tool {name[:128]!r} not found, there are: {there}")


async def list_agent_tools(
    services: Services, agent_id: AgentId, query: ListAgentTools
) -> list[ToolAnswer]:
    """List an agent's tools, the one attached last first."""
    return tool_page(shown_tools(services, await _settings(services, agent_id)), query)


async def attach_tool(
    services: Services, agent_id: AgentId, tool_id: ToolId, request: Request
) -> AgentAnswer | None:
    """Give an agent a tool."""
    settings = await _settings(services, agent_id)
    name = _name_of(services, tool_id, settings.tools)
    await do_on_agent(services, agent_id, AttachTool(name, services.toolbox.gates(name)))
    return await _answer(services, agent_id, request)


async def detach_tool(
    services: Services, agent_id: AgentId, tool_id: ToolId, request: Request
) -> AgentAnswer | None:
    """Take a tool away from an agent, and the word on its approval with it."""
    settings = await _settings(services, agent_id)
    name = _name_of(services, tool_id, settings.tools)
    await do_on_agent(services, agent_id, DetachTool(name))
    return await _answer(services, agent_id, request)


async def require_approval(
    services: Services,
    agent_id: AgentId,
    tool_name: Label,
    query: ApprovalQuery,
    body: RequireApproval | None,
) -> None:
    """Have a tool of an agent run only with the client's approval, or without again."""
    wanted = query.requires_approval if body is None else body.requires_approval
    if wanted is None:
        raise Invalid("requires_approval: true or false is needed, in the body")
    settings = await _settings(services, agent_id)
    _check(services, tool_name, settings.tools)
    await do_on_agent(services, agent_id, GateTool(tool_name, wanted))


async def run_agent_tool(services: Services, agent_id: AgentId, tool_name: Label) -> dict[str, Any]:
    """Run a tool outside a run: not done here."""
    settings = await _settings(services, agent_id)
    _check(services, tool_name, settings.tools)
    raise NotYet(RUNS_ONLY)


async def _settings(services: Services, agent_id: str) -> AgentSettings:
    settings = (await living_agent(services, agent_id)).settings
    if settings is None:
        raise NotFound("Agent", agent_id)
    return settings


async def _answer(services: Services, agent_id: str, request: Request) -> AgentAnswer | None:
    """Answer older clients with the agent; newer ones expect nothing (contract 1)."""
    if SDK_HEADER in request.headers:
        return None
    return await agent_answer(services, agent_id, ALL)


ROOT: Final = "/v1/agents/{agent_id}/tools"
ENDPOINTS: Final = [
    endpoint("GET", ROOT, list_agent_tools, list[ToolAnswer], tag="agents", errors=(404,)),
    endpoint(
        "PATCH",
        f"{ROOT}/attach/{{tool_id}}",
        attach_tool,
        AgentAnswer | None,
        tag="agents",
        errors=(404, 409),
    ),
    endpoint(
        "PATCH",
        f"{ROOT}/detach/{{tool_id}}",
        detach_tool,
        AgentAnswer | None,
        tag="agents",
        errors=(404,),
    ),
    endpoint(
        "PATCH",
        f"{ROOT}/approval/{{tool_name}}",
        require_approval,
        None,
        tag="agents",
        errors=(404, 503),
    ),
    endpoint(
        "POST",
        f"{ROOT}/{{tool_name}}/run",
        run_agent_tool,
        dict[str, Any],
        tag="agents",
        errors=(404, 501, 503),
    ),
]
