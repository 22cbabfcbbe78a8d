"""What Letta had and Everlog has not: each call is answered with what to do instead.

A route of ours always comes first, but for counts, so a line here that is no longer true is never
reached.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.web.errors import NO_RETRY, json_response

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Absent(NamedTuple):
    """A call that is turned down; `*` is any method. `instead` is a sentence for its caller."""

    method: str
    path: str
    instead: str


def _all_under(root: str, instead: str) -> Iterator[Absent]:
    yield Absent("*", root, instead)
    yield Absent("*", f"{root}/{{rest:path}}", instead)


_FILES: Final = (
    "Files and folders are not kept here; use a tool of the client's, or a server tool, that reads "
    "them, or put text into memory blocks or messages instead."
)
_IDENTITIES: Final = "Identities are not kept here; use tags and metadata of agents instead."
_ARCHIVES: Final = (
    "An agent has one archive of its own; use /v1/agents/{agent_id}/archival-memory instead."
)
_SCHEDULES: Final = (
    "Messages are not scheduled here; use a timer of your own that posts to "
    "/v1/conversations/{conversation_id}/messages instead."
)
_ENVIRONMENTS: Final = (
    "Environments belong to the hosted service; use client tools or the server's own tools instead."
)
_TEMPLATES: Final = (
    "Templates belong to the hosted service; use the export of one agent and its import instead."
)
_ACCESS_TOKENS: Final = (
    "Client-side access tokens belong to the hosted service; use an API key of the server instead."
)
_EDITS: Final = (
    "A message is a fact and does not change; use a compaction or a pin "
    "(PATCH /v1/conversations/{conversation_id}/messages/{message_id}) to say what the model sees, "
    "or send another message instead."
)
_GROUPS: Final = "There are no groups of agents; use a conversation with each agent instead."
_PROVIDERS: Final = "Providers are the operator's to configure; use GET /v1/models/ instead."
_BATCHES: Final = (
    "There are no batches; use background runs, POST /v1/agents/{agent_id}/messages/async, instead."
)
_TRACES: Final = (
    "Traces are not kept here; use the log, GET /v1/conversations/{conversation_id}/events, and "
    "GET /v1/conversations/{conversation_id}/steps/{step_id}/request instead."
)

ABSENT: Final = (
    Absent("GET", "/v1/runs/{run_id}/trace", _TRACES),
    Absent("GET", "/v1/runs/{run_id}/metrics", "Use GET /v1/runs/{run_id} and its /usage instead."),
    Absent("GET", "/v1/steps/{step_id}/trace", _TRACES),
    Absent(
        "PATCH",
        "/v1/steps/{step_id}/feedback",
        "Feedback is not kept here; use a store of your own, by the step's id, instead.",
    ),
    Absent("PATCH", "/v1/agents/{agent_id}/messages/{message_id}", _EDITS),
    Absent("DELETE", "/v1/agents/{agent_id}/messages/{message_id}", _EDITS),
    Absent("DELETE", "/v1/conversations/{conversation_id}/messages/{message_id}", _EDITS),
    Absent(
        "POST",
        "/v1/conversations/{conversation_id}/messages/preview-raw-payload",
        "Use GET /v1/conversations/{conversation_id}/steps/{step_id}/request, the request that a "
        "step was made with, instead.",
    ),
    Absent(
        "POST",
        "/v1/conversations/{conversation_id}/summarize",
        "Use POST /v1/conversations/{conversation_id}/compact, or its compactions/preview, instead.",
    ),
    Absent(
        "POST",
        "/v1/conversations/ephemeral",
        "Every conversation is kept; use POST /v1/conversations/ with hidden, and delete it, instead.",
    ),
    Absent("POST", "/v1/conversations/search", "Use POST /v1/messages/search instead."),
    Absent("POST", "/v1/messages/batches", _BATCHES),
    *_all_under("/v1/agents/{agent_id}/files", _FILES),
    *_all_under("/v1/agents/{agent_id}/folders", _FILES),
    *_all_under("/v1/folders", _FILES),
    *_all_under("/v1/sources", _FILES),
    *_all_under("/v1/agents/{agent_id}/identities", _IDENTITIES),
    *_all_under("/v1/identities", _IDENTITIES),
    *_all_under("/v1/agents/{agent_id}/archives", _ARCHIVES),
    *_all_under("/v1/agents/{agent_id}/schedule", _SCHEDULES),
    *_all_under("/v1/environments", _ENVIRONMENTS),
    *_all_under("/v1/templates", _TEMPLATES),
    *_all_under("/v1/client-side-access-tokens", _ACCESS_TOKENS),
    *_all_under("/v1/groups", _GROUPS),
    *_all_under("/v1/providers", _PROVIDERS),
    *_all_under("/v1/jobs", "Use runs, GET /v1/runs/, instead."),
)
# What older clients have counted; of the rest that is absent, its count is, too.
COUNTED: Final = (
    "agents",
    "archives",
    "blocks",
    "conversations",
    "messages",
    "runs",
    "steps",
    "tools",
)


def routes() -> list[BaseRoute]:
    """Give a route for each; they stand behind those of what there is."""
    return [_route_of(row) for row in ABSENT]


def count_route() -> Route:
    """Give the route of all counts. It stands before the others: `count` is nobody's id."""
    return Route("/v1/{collection}/count", _turn_down_count, methods=["GET"], name="absent counts")


async def _turn_down_count(request: Request) -> Response:
    collection: str = request.path_params["collection"]
    if collection in COUNTED:
        return _turned_down(
            f"Nothing is counted here; use the list, GET /v1/{collection}/, page by page instead."
        )
    for row in ABSENT:
        if row.path == f"/v1/{collection}":
            return _turned_down(row.instead)
    raise HTTPException(404)


def _turned_down(instead: str) -> Response:
    return json_response(501, {"detail": f"NOT_IMPLEMENTED: {instead}"}, NO_RETRY)


def _route_of(row: Absent) -> Route:
    async def turn_down(_: Request) -> Response:
        return _turned_down(row.instead)

    methods = METHODS if row.method == "*" else (row.method,)
    return Route(row.path, turn_down, methods=list(methods), name=f"absent {row.path}")
