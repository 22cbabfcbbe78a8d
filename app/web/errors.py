"""What goes wrong, as clients read it (contract section 1.1): a status and a JSON body."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import orjson
from eventsourcing.persistence import PersistenceError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.execute import TooMuchContention
from app.log import StoreUnavailable
from app.providers.catalogue import MalformedHandle, UnknownHandle
from domain.errors import Busy, Full, KeyReused, NotFound, Refused, Unasked

# Tells the SDK not to post again what cannot succeed: it retries 409 by itself.
NO_RETRY: Final = {"x-should-retry": "false"}
PROBLEMS_MAX: Final = 20
PROBLEM_CHARS_MAX: Final = 4096
RETRY_SOON: Final = {"retry-after": "1"}
EXAMPLE_IDS: Final = ["agent-123e4567-e89b-42d3-8456-426614174000"]


class ApiError(Exception):
    """An answer that is not the one asked for."""

    def __init__(
        self, status: int, detail: Any, *, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(str(detail))
        self.status = status
        self.body = {"detail": detail, **more}
        self.headers = headers or {}


class Invalid(ApiError):
    """A request that does not fit its schema. `problem` names the field and the bound."""

    def __init__(self, problem: str, **more: Any) -> None:
        super().__init__(422, problem, trace_id="", **more)


class NotYet(ApiError):
    """Something that Letta had and this version does not; says what to do instead."""

    def __init__(self, what: str) -> None:
        super().__init__(501, f"NOT_IMPLEMENTED: {what}", headers=NO_RETRY)


def json_response(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON."""
    return Response(orjson.dumps(body), status, headers, "application/json")


def problem_of(error: ValidationError) -> str:
    """Spell what is wrong with a request the way the original did: a list, as a string.

    The first problems are enough, and what was sent is not sent back: it may be large.
    """
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return str(problems[:PROBLEMS_MAX])[:PROBLEM_CHARS_MAX]


def _api_error(error: ApiError) -> Response:
    return json_response(error.status, error.body, error.headers)


def _http(error: HTTPException) -> Response:
    headers = dict(error.headers) if error.headers else None
    return json_response(error.status_code, {"detail": error.detail}, headers)


def _busy(error: Busy) -> Response:
    body = {"detail": f"CONFLICT: {error}", "run_id": error.run_id}
    return json_response(409, body, NO_RETRY)


def _unasked(error: Unasked) -> Response:
    return json_response(400, {"detail": str(error)})


def _key_reused(error: KeyReused) -> Response:
    return json_response(422, {"detail": str(error), "run_id": error.run_id}, NO_RETRY)


def _conflict(error: Exception) -> Response:
    return json_response(409, {"detail": f"CONFLICT: {error}"}, NO_RETRY)


def _full(error: Full) -> Response:
    return json_response(429, {"detail": f"RATE_LIMIT_EXCEEDED: {error}"}, RETRY_SOON)


def _not_found(error: NotFound) -> Response:
    return json_response(404, {"detail": str(error)})


def _unknown_handle(error: UnknownHandle) -> Response:
    known = ", ".join(error.known)
    text = f"NOT_FOUND: Handle {error.handle} not found, must be one of [{known}]"
    return json_response(404, {"detail": text})


def _malformed_handle(error: MalformedHandle) -> Response:
    return json_response(400, {"detail": f"INVALID_ARGUMENT: {error}"})


def _unavailable(_: Exception) -> Response:
    text = "The database does not answer. What was sent may or may not have been stored."
    return json_response(503, {"detail": text}, RETRY_SOON)


def unforeseen(_: Exception) -> Response:
    """Answer a fault of ours, saying nothing of it."""
    return json_response(500, {"detail": "An unknown error occurred"})


_ANSWERS: Final[dict[type[Exception], Callable[[Any], Response]]] = {
    ApiError: _api_error,
    HTTPException: _http,
    Busy: _busy,
    Full: _full,
    KeyReused: _key_reused,
    Unasked: _unasked,
    Refused: _conflict,
    NotFound: _not_found,
    UnknownHandle: _unknown_handle,
    MalformedHandle: _malformed_handle,
    StoreUnavailable: _unavailable,
    TooMuchContention: _unavailable,
    PersistenceError: _unavailable,
    Exception: unforeseen,
}

# What handlers may raise; anything else is a fault of ours.
EXPECTED: Final = tuple(kind for kind in _ANSWERS if kind is not Exception)

Handler = Callable[[Request, Exception], Awaitable[Response]]


def _handler(answer: Callable[[Any], Response]) -> Handler:
    async def handle(_: Request, error: Exception) -> Response:
        return answer(error)

    return handle


# In the type that Starlette asks for.
EXCEPTION_HANDLERS: Final = cast(
    "dict[Any, Any]", {kind: _handler(answer) for kind, answer in _ANSWERS.items()}
)
