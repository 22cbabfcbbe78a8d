"""From a typed function to a route: its signature says what is parsed, checked and documented.

A handler takes `services` first; then, as it likes, path parameters by name, `query` and `body`
(pydantic models), and `request`. It answers with a value to be sent as JSON or with a response.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias, cast, get_args, get_origin, get_type_hints

import orjson
from pydantic import BaseModel, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.web.errors import (
    EXAMPLE_IDS,
    EXPECTED,
    ApiError,
    Invalid,
    problem_of,
    unforeseen,
)
from app.web.services import Services
from domain.streams import (
    AGENT,
    ARCHIVE,
    BLOCK,
    COMPACTION,
    CONVERSATION,
    MCP_SERVER,
    MESSAGE,
    RUN,
    TOOL,
    USER,
    is_id,
    pattern_of,
)

JSON_DEPTH_MAX: Final = 64
FORM_FILES_MAX: Final = 1
FORM_FIELDS_MAX: Final = 64
logger = logging.getLogger(__name__)
_OPENERS: Final = re.compile(rb"[\[{]")
# `{name}`, or `{name:path}` for one that may contain slashes.
_PLACES: Final = re.compile(r"{(\w+)(?::path)?}")

ConversationId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(CONVERSATION))]
AgentId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(AGENT))]
CompactionId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(COMPACTION))]
MessageId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(MESSAGE))]
BlockId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(BLOCK))]
ToolId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(TOOL))]
McpServerId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(MCP_SERVER))]
ArchiveId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(ARCHIVE))]
# Any string goes through to the lookup, which answers 400 for a malformed one (contract 1.2).
RunId: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Label: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=256)]
RUN_ID: Final = re.compile(pattern_of(RUN))

Handler: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Endpoint:
    """A route and all that its documentation needs.

    The body comes as JSON, or as a `form` in parts, files among them. `errors` are the statuses it
    may answer.
    """

    method: str
    path: str
    handler: Handler
    answer: Any
    tag: str
    summary: str
    parameters: dict[str, TypeAdapter[Any]]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    body_required: bool
    wants_request: bool
    form: bool = False
    errors: tuple[int, ...] = ()
    media_types: tuple[str, ...] = field(default=("application/json",))

    @property
    def url(self) -> str:
        """The path as it is documented."""
        return _PLACES.sub(r"{\1}", self.path)

    @property
    def name(self) -> str:
        """The operation's id."""
        return self.handler.__name__


def endpoint(  # noqa: PLR0913 - a row of a table, read as one
    method: str,
    path: str,
    handler: Handler,
    answer: Any,
    *,
    tag: str,
    errors: tuple[int, ...] = (),
    media_types: tuple[str, ...] = ("application/json",),
    form: bool = False,
) -> Endpoint:
    """Read a handler's signature. A `body` that may be None may be missing."""
    hints = get_type_hints(handler, include_extras=True)
    names = _PLACES.findall(path)
    body, required = _body_of(hints.get("body"))
    return Endpoint(
        method=method,
        path=path,
        handler=handler,
        answer=answer,
        tag=tag,
        summary=(handler.__doc__ or "").split("\n", 1)[0],
        parameters={name: TypeAdapter(hints[name]) for name in names},
        query=hints.get("query"),
        body=body,
        body_required=required,
        wants_request="request" in hints,
        form=form,
        errors=errors,
        media_types=media_types,
    )


def _body_of(hint: Any) -> tuple[type[BaseModel] | None, bool]:
    models = [one for one in get_args(hint) if one is not type(None)]
    if models:
        return models[0], False
    return hint, hint is not None


def route_of(call: Endpoint, services: Callable[[], Services]) -> Route:
    """Make a Starlette route of an endpoint."""

    async def serve(request: Request) -> Response:
        _check_user(request)
        arguments = await _arguments(call, request)
        try:
            value = await call.handler(services(), **arguments)
        except EXPECTED:
            raise
        except Exception as error:
            # Answered here: left to the framework, it would cost the client its connection.
            logger.exception("%s %s failed", call.method, call.path)
            return unforeseen(error)
        if isinstance(value, Response):
            return value
        return Response(to_json(value), media_type="application/json")

    route = Route(call.path, serve, methods=[call.method], name=call.name)
    # A HEAD of a stream would follow it for ever.
    (route.methods or set()).discard("HEAD")
    return route


def _check_user(request: Request) -> None:
    """Check the optional header that says who asks (contract section 1). Raises 400."""
    user = request.headers.get("user_id")
    if user is not None and not is_id(USER, user):
        raise ApiError(400, f"INVALID_ARGUMENT: user_id {user[:64]!r} is not user-<uuid4>")


async def _arguments(call: Endpoint, request: Request) -> dict[str, Any]:
    arguments = {
        name: _path_parameter(name, adapter, request.path_params[name])
        for name, adapter in call.parameters.items()
    }
    if call.query is not None:
        arguments["query"] = _checked(call.query, _query_of(call.query, request.query_params))
    if call.body is not None and call.form:
        arguments["body"] = _checked(call.body, await _form(request))
    elif call.body is not None:
        arguments["body"] = await _body(call.body, call.body_required, request)
    if call.wants_request:
        arguments["request"] = request
    return arguments


def _path_parameter(name: str, adapter: TypeAdapter[Any], value: str) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = f"{name}: {problem_of(error)}"
        raise Invalid(problem, examples=EXAMPLE_IDS) from error


def _query_of(model: type[BaseModel], params: QueryParams) -> dict[str, Any]:
    """Collect what was sent; a list's values come as repeated keys."""
    sent: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        key = info.alias or name
        if key in params:
            sent[key] = params.getlist(key) if _is_list(info.annotation) else params[key]
    return sent


def _is_list(hint: Any) -> bool:
    """Tell whether a list is somewhere in a type, under unions and annotations."""
    return get_origin(hint) in (list, tuple) or any(map(_is_list, get_args(hint)))


def _checked(model: type[BaseModel], value: Any) -> BaseModel:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Invalid(problem_of(error)) from error


async def _body(model: type[BaseModel], required: bool, request: Request) -> BaseModel | None:
    raw = await request.body()
    if not raw and not required:
        return None
    return _checked(model, parsed(raw))


async def _form(request: Request) -> dict[str, str | bytes]:
    """Read a form in parts; an empty field was not sent. Raises 422 for another kind of body."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Invalid("The body is to be sent as multipart/form-data.")
    sent: dict[str, str | bytes] = {}
    # A part that is a file is bounded by the body's own limit.
    async with request.form(max_files=FORM_FILES_MAX, max_fields=FORM_FIELDS_MAX) as form:
        for name, value in form.multi_items():
            content = value if isinstance(value, str) else await value.read()
            if content:
                sent[name] = content
    return sent


def parsed(raw: bytes) -> Any:
    """Parse a JSON body. Raises Invalid for what is not JSON in UTF-8 or nests too deep."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not JSON in UTF-8: {error}") from error
    # Few bodies have so many brackets; only those are walked.
    if len(_OPENERS.findall(raw)) > JSON_DEPTH_MAX and _depth(value) > JSON_DEPTH_MAX:
        raise Invalid(f"The body nests deeper than {JSON_DEPTH_MAX} levels.")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        level = [child for one in level for child in _children(one)]
        depth += 1
    return depth


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(cast("dict[str, Any]", value).values())
    return cast("list[Any]", value) if isinstance(value, list) else []


def checked_run_id(run_id: str) -> str:
    """Give a run's id back. Raises 400 for a malformed one."""
    if RUN_ID.fullmatch(run_id) is None:
        raise ApiError(400, f"Invalid run ID format: {run_id[:64]!r}; expected run-<uuid4>.")
    return run_id
