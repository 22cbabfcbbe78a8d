"""The wire: every URL in one list, Letta's and our own."""

from collections.abc import Callable

from starlette.routing import BaseRoute

from app.web import (
    absent,
    agent_context,
    agent_files,
    agent_messages,
    agent_tools,
    agents,
    archival,
    archives,
    block_history,
    blocks,
    cancelling,
    compactions,
    consolidations,
    conversations,
    core_memory,
    facts,
    forks,
    mcp_servers,
    messages,
    messages_anywhere,
    models,
    recompiling,
    runs,
    search,
    steps,
    tags,
    tools,
    why,
)
from app.web.endpoint import route_of
from app.web.openapi import openapi_route
from app.web.services import Services

ENDPOINTS = [
    *conversations.ENDPOINTS,
    *forks.ENDPOINTS,
    *messages.ENDPOINTS,
    *cancelling.ENDPOINTS,
    *agent_messages.ENDPOINTS,
    *recompiling.ENDPOINTS,
    *runs.ENDPOINTS,
    *agent_tools.ENDPOINTS,
    *agent_files.ENDPOINTS,
    *agents.ENDPOINTS,
    *agent_context.ENDPOINTS,
    *core_memory.ENDPOINTS,
    *archival.ENDPOINTS,
    *archives.ENDPOINTS,
    *blocks.ENDPOINTS,
    *block_history.ENDPOINTS,
    *models.ENDPOINTS,
    *tools.ENDPOINTS,
    *mcp_servers.ENDPOINTS,
    *compactions.ENDPOINTS,
    *consolidations.ENDPOINTS,
    *why.ENDPOINTS,
    *facts.ENDPOINTS,
    *search.ENDPOINTS,
    *steps.ENDPOINTS,
    *messages_anywhere.ENDPOINTS,
    *tags.ENDPOINTS,
]


def routes(services: Callable[[], Services]) -> list[BaseRoute]:
    """Give every route; `services` is asked at each request, when the server is running."""
    done = [route_of(call, services) for call in ENDPOINTS]
    return [absent.count_route(), *done, openapi_route(ENDPOINTS), *absent.routes()]
