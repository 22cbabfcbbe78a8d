"""The tools of an agent: which of the server's it has, and which of those need the client's word."""

from typing import Any, Final

from app.tools import Toolbox
from app.web.agent_bodies import AgentFields, RequireApproval
from app.web.endpoint import AgentId, Label, endpoint
from app.web.errors import ApiError, NotYet
from app.web.services import Services
from domain.agent import AgentSettings, ChangeAgent

REQUIRES_APPROVAL: Final = "requires_approval"


def tool_changes(services: Services, body: AgentFields) -> dict[str, Any]:
    """Give what a request says of tools as settings. Raises 404 for a tool that there is not.

    Of Letta's rules only the one that asks for approval is known; others are 501.
    """
    changes: dict[str, Any] = {}
    if body.tools is not None:
        changes["tools"] = tuple(dict.fromkeys(body.tools))
        for name in changes["tools"]:
            _check(services.toolbox, name)
    if body.tool_rules is not None:
        for rule in body.tool_rules:
            if rule.type != REQUIRES_APPROVAL:
                raise NotYet(f"tool_rules: this version knows no rule {rule.type!r}")
            _check(services.toolbox, rule.tool_name)
        names = (rule.tool_name for rule in body.tool_rules)
        changes["approval_tools"] = tuple(dict.fromkeys(names))
    return changes


def _check(toolbox: Toolbox, name: str) -> None:
    if toolbox.get(name) is None:
        known = ", ".join(toolbox.names)
        raise ApiError(404, f"NOT_FOUND: Tool {name[:128]!r} not found, there are: {known}")


def shown_tools(services: Services, settings: AgentSettings) -> list[dict[str, Any]]:
    """Give an agent's tools as clients see them."""
    offered = services.toolbox.offered(settings.tools, settings.approval_tools)
    return [
        {
            "id": f"tool-{one.name}",
            "name": one.name,
            "description": one.description,
            "json_schema": {
                "name": one.name,
                "description": one.description,
                "parameters": one.parameters,
            },
            "tool_type": "everlog",
            "default_requires_approval": one.gated,
        }
        for one in offered
    ]


def shown_rules(settings: AgentSettings) -> list[dict[str, Any]]:
    """Give an agent's tool rules as clients see them."""
    return [{"type": REQUIRES_APPROVAL, "tool_name": name} for name in settings.approval_tools]


async def require_approval(
    services: Services, agent_id: AgentId, tool_name: Label, body: RequireApproval
) -> None:
    """Have a tool of an agent run only with the client's approval, or without again."""
    _check(services.toolbox, tool_name)
    agent = await services.execute.agent(agent_id)
    if agent.settings is None or agent.deleted:
        raise ApiError(404, f"Agent with ID {agent_id} not found")
    others = tuple(name for name in agent.settings.approval_tools if name != tool_name)
    gated = (*others, tool_name) if body.requires_approval else others
    await services.execute(agent_id, ChangeAgent({"approval_tools": gated}), "user")


ENDPOINTS: Final = [
    endpoint(
        "PATCH",
        "/v1/agents/{agent_id}/tools/approval/{tool_name}",
        require_approval,
        None,
        tag="agents",
        errors=(404,),
    ),
]
