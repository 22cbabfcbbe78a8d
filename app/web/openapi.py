"""`/openapi.json`: generated from the endpoints, so it cannot say anything but what they do."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Final, Literal, TypeAlias

import orjson
from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.web.bodies import Answer
from app.web.endpoint import Endpoint
from app.web.models import VERSION

REF: Final = "#/components/schemas/{model}"
REASONS: Final = {
    400: "The request cannot be carried out as it is.",
    401: "The model's vendor refused our key.",
    402: "The model's vendor wants to be paid.",
    403: "A web page of elsewhere, or a host name of elsewhere, over loopback.",
    404: "There is no such thing, or no more.",
    409: "Something else stands in the way.",
    413: "The body is too large.",
    422: "The request does not fit its schema; `detail` names field and bound.",
    429: "Too much at once.",
    500: "A fault of ours, or of the model's vendor.",
    501: "Not in this version; `detail` says what to do instead.",
    503: "The database, a server of tools or the vendor does not answer, or this server is going down.",
    504: "The model's vendor took too long.",
}
# Not of type string: who reads a stream by its description reads events, one after the other.
STREAM: Final = {"description": "Server-sent events, each with JSON after `data:`."}
EVERYWHERE: Final = (400, 403, 413, 422, 500, 503)


class ErrorAnswer(Answer):
    """What went wrong."""

    detail: Any


class VendorErrorAnswer(Answer):
    """What went wrong at the model's vendor."""

    error: dict[str, Any]


_Input: TypeAlias = tuple[Any, Literal["validation", "serialization"], TypeAdapter[Any]]


class _Schemas:
    """All schemas, each defined once."""

    def __init__(self, calls: Sequence[Endpoint]) -> None:
        inputs: list[_Input] = []
        for call in calls:
            inputs.append((f"{call.name} answer", "serialization", TypeAdapter(call.answer)))
            if call.body is not None:
                inputs.append((call.name, "validation", TypeAdapter(call.body)))
        for model in (ErrorAnswer, VendorErrorAnswer):
            inputs.append((model.__name__, "serialization", TypeAdapter(model)))
        self.references, defined = TypeAdapter.json_schemas(inputs, ref_template=REF)
        self.components = defined.get("$defs", {})

    def body(self, call: Endpoint) -> Any:
        return self.references[call.name, "validation"]

    def answer(self, call: Endpoint) -> Any:
        return self.references[f"{call.name} answer", "serialization"]

    def error(self, status: int) -> Any:
        known = self.references["ErrorAnswer", "serialization"]
        vendor = self.references["VendorErrorAnswer", "serialization"]
        return {"anyOf": [known, vendor]} if status in VENDORS else known


VENDORS: Final = (400, 401, 402, 429, 500, 503, 504)


def document(calls: Sequence[Endpoint]) -> dict[str, Any]:
    """Describe the API as OpenAPI 3.1."""
    schemas = _Schemas(calls)
    paths: dict[str, dict[str, Any]] = {}
    for call in calls:
        paths.setdefault(call.url, {})[call.method.lower()] = _operation(call, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Everlog",
            "version": VERSION,
            "description": "Conversations of agents on an append-only log.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


def _operation(call: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": call.name,
        "tags": [call.tag],
        "summary": call.summary,
        "description": " ".join((call.handler.__doc__ or "").split()),
        "parameters": [*_path_parameters(call), *_query_parameters(call.query)],
        "responses": _responses(call, schemas),
    }
    if call.body is not None:
        operation["requestBody"] = {
            "required": call.body_required,
            "content": {_body_type(call): _shown(call, "body", schemas.body(call))},
        }
    return operation


def _body_type(call: Endpoint) -> str:
    return "multipart/form-data" if call.form else "application/json"


def _path_parameters(call: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": adapter.json_schema()}
        for name, adapter in call.parameters.items()
    ]


def _query_parameters(model: type[BaseModel] | None) -> list[dict[str, Any]]:
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=REF)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": one.pop("description", ""),
            "schema": one,
        }
        for name, one in schema["properties"].items()
    ]


def _responses(call: Endpoint, schemas: _Schemas) -> dict[str, Any]:
    content = {
        media_type: _shown(call, "answer", schemas.answer(call))
        if media_type.endswith("json")
        else {"schema": STREAM}
        for media_type in call.media_types
    }
    failures = {
        str(status): {
            "description": REASONS[status],
            "content": {"application/json": {"schema": schemas.error(status)}},
        }
        for status in sorted({*call.errors, *EVERYWHERE})
    }
    return {"200": {"description": "As asked.", "content": content}, **failures}


def examples() -> dict[str, dict[str, Any]]:
    """Give what was said to routes of the audit, and by them, with long texts and lists cut short."""
    return orjson.loads(files("app.web").joinpath("examples.json").read_bytes())


def _shown(call: Endpoint, part: str, schema: Any) -> dict[str, Any]:
    example = examples().get(call.name, {}).get(part)
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def openapi_route(calls: Sequence[Endpoint]) -> Route:
    """Serve the description; it is made when somebody first asks for it."""
    made: list[bytes] = []

    async def openapi(_: Request) -> Response:
        if not made:
            made.append(orjson.dumps(document(calls)))
        return Response(made[0], media_type="application/json")

    return Route("/openapi.json", openapi, methods=["GET"])
