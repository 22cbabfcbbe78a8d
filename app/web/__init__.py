"""The wire: every URL in one list, Letta's and our own."""

from collections.abc import Callable

from starlette.routing import BaseRoute

from app.web import (
    agent_messages,
    agent_tools,
    agents,
    blocks,
    cancelling,
    compactions,
    conversations,
    core_memory,
    facts,
    messages,
    models,
    runs,
    search,
    steps,
    why,
)
from app.web.endpoint import route_of
from app.web.openapi import openapi_route
from app.web.services import Services

ENDPOINTS = [
    *conversations.ENDPOINTS,
    *messages.ENDPOINTS,
    *cancelling.ENDPOINTS,
    *agent_messages.ENDPOINTS,
    *runs.ENDPOINTS,
    *agent_tools.ENDPOINTS,
    *agents.ENDPOINTS,
    *core_memory.ENDPOINTS,
    *blocks.ENDPOINTS,
    *models.ENDPOINTS,
    *compactions.ENDPOINTS,
    *why.ENDPOINTS,
    *facts.ENDPOINTS,
    *search.ENDPOINTS,
    *steps.ENDPOINTS,
]


def routes(services: Callable[[], Services]) -> list[BaseRoute]:
    """Give every route; `services` is asked at each request, when the server is running."""
    return [*(route_of(call, services) for call in ENDPOINTS), openapi_route(ENDPOINTS)]
