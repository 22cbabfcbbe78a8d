import re
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import orjson
import pytest
from pydantic import Field, TypeAdapter

from app.web import ENDPOINTS
from app.web.bodies import Answer, Body
from app.web.endpoint import AgentId, Endpoint, endpoint
from app.web.openapi import document, examples
from app.web.services import Services
from tests.app.serving import Server, serving

REF: Final = "#/components/schemas/"


class Part(Body):
    """A part of a body."""

    text: str


class Question(Body):
    """A body."""

    parts: list[Part]
    again: Part | None = None


class Query(Body):
    """A query."""

    needed: str
    sort: Literal["asc", "desc"] = "asc"
    many: Annotated[list[int], Field(max_length=3)] | None = None


class Reply(Answer):
    """An answer."""

    text: str = ""


async def ask(services: Services, agent_id: AgentId, query: Query, body: Question) -> Reply:
    """Ask an agent something.

    It answers.
    """
    raise NotImplementedError(services, agent_id, query, body)


async def maybe(services: Services, body: Question | None) -> list[Reply]:
    """Ask, or do not."""
    raise NotImplementedError(services, body)


async def forget(services: Services) -> None:
    """Forget it."""
    raise NotImplementedError(services)


SMALL: Final = [
    endpoint(
        "POST",
        "/ask/{agent_id}",
        ask,
        Reply,
        tag="asking",
        errors=(404,),
        media_types=("application/json", "text/event-stream"),
    ),
    endpoint("POST", "/maybe", maybe, list[Reply], tag="asking"),
    endpoint("DELETE", "/maybe", forget, None, tag="asking"),
]


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return document(ENDPOINTS)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


def operations(found: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
    ]


def called(name: str) -> Endpoint:
    return next(call for call in ENDPOINTS if call.name == name)


def values_in(node: Any) -> Iterator[tuple[str, Any]]:
    """Walk a document's keys and values, however deep."""
    if isinstance(node, dict):
        for key, value in cast("dict[str, Any]", node).items():
            yield key, value
            yield from values_in(value)
    elif isinstance(node, list):
        for one in cast("list[Any]", node):
            yield from values_in(one)


# --- a small one --------------------------------------------------------------------------------


def test_an_operation_says_what_its_handler_does() -> None:
    asked = document(SMALL)["paths"]["/ask/{agent_id}"]["post"]
    assert (asked["operationId"], asked["tags"]) == ("ask", ["asking"])
    assert asked["summary"] == "Ask an agent something."
    assert "It answers." in asked["description"]


def test_parameters_say_where_they_stand_and_what_they_may_be() -> None:
    asked = document(SMALL)["paths"]["/ask/{agent_id}"]["post"]
    found = {one["name"]: one for one in asked["parameters"]}
    assert list(found) == ["agent_id", "needed", "sort", "many"]
    assert [one["in"] for one in found.values()] == ["path", "query", "query", "query"]
    required = {name: one["required"] for name, one in found.items()}
    assert required == {"agent_id": True, "needed": True, "sort": False, "many": False}
    assert "agent-" in found["agent_id"]["schema"]["pattern"]
    assert found["sort"]["schema"]["enum"] == ["asc", "desc"]


def test_a_body_is_required_unless_it_may_be_missing() -> None:
    paths = document(SMALL)["paths"]
    body = paths["/ask/{agent_id}"]["post"]["requestBody"]
    assert body["required"] is True
    assert body["content"]["application/json"]["schema"] == {"$ref": f"{REF}Question"}
    assert paths["/maybe"]["post"]["requestBody"]["required"] is False
    assert "requestBody" not in paths["/maybe"]["delete"]


def test_an_answer_has_a_schema_for_each_of_its_media_types() -> None:
    paths = document(SMALL)["paths"]
    content = paths["/ask/{agent_id}"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": f"{REF}Reply"}
    assert "events" in content["text/event-stream"]["schema"]["description"]
    many = paths["/maybe"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert many == {"type": "array", "items": {"$ref": f"{REF}Reply"}}
    none = paths["/maybe"]["delete"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert none == {"type": "null"}


def test_errors_are_those_declared_and_those_that_any_call_may_meet() -> None:
    paths = document(SMALL)["paths"]
    asked, forgotten = paths["/ask/{agent_id}"]["post"], paths["/maybe"]["delete"]
    always = {"200", "422", "500", "503"}
    assert always | {"404"} <= set(asked["responses"])
    assert always <= set(forgotten["responses"])
    assert "404" not in forgotten["responses"]


def test_every_model_is_defined_once() -> None:
    schemas = document(SMALL)["components"]["schemas"]
    assert {"Question", "Part", "Reply"} <= set(schemas)
    assert schemas["Question"]["properties"]["parts"]["items"] == {"$ref": f"{REF}Part"}
    assert schemas["Question"]["required"] == ["parts"]


# --- ours ---------------------------------------------------------------------------------------


def test_every_endpoint_is_described(whole: dict[str, Any]) -> None:
    assert whole["openapi"].startswith("3.1")
    described = {(method.upper(), path) for path, method, _ in operations(whole)}
    assert described == {(call.method, call.url) for call in ENDPOINTS}


def test_every_operation_has_a_name_of_its_own_and_a_sentence(whole: dict[str, Any]) -> None:
    names = [one["operationId"] for *_, one in operations(whole)]
    assert len(names) == len(set(names))
    for *_, one in operations(whole):
        assert one["summary"].endswith("."), one["operationId"]
        assert one["tags"], one["operationId"]


def test_every_reference_leads_somewhere(whole: dict[str, Any]) -> None:
    found = {str(value) for key, value in values_in(whole) if key == "$ref"}
    assert found
    assert {one.removeprefix(REF) for one in found} <= set(whole["components"]["schemas"])
    assert all(re.fullmatch(r"[\w.-]+", name) for name in whole["components"]["schemas"])
    assert not any(key == "$defs" for key, _ in values_in(whole))


def test_every_place_in_a_path_is_a_parameter(whole: dict[str, Any]) -> None:
    for path, _, one in operations(whole):
        declared = [each["name"] for each in one["parameters"] if each["in"] == "path"]
        assert declared == re.findall(r"{(\w+)}", path)
        names = [(each["in"], each["name"]) for each in one["parameters"]]
        assert len(names) == len(set(names)), path


def test_a_place_that_may_hold_slashes_is_documented_like_any_other(whole: dict[str, Any]) -> None:
    call = called("retrieve_core_block")
    assert call.path.endswith("{block_label:path}")
    assert call.url.endswith("{block_label}")
    assert call.url in whole["paths"]


def test_every_answer_has_a_description_and_content(whole: dict[str, Any]) -> None:
    for path, _, one in operations(whole):
        for status, answer in one["responses"].items():
            assert answer["description"], (path, status)
            for media in answer["content"].values():
                assert "schema" in media, (path, status)


def test_what_the_sdk_repeats_in_a_query_is_a_list(whole: dict[str, Any]) -> None:
    listed = whole["paths"][called("list_agents").url]["get"]["parameters"]
    tags = next(one["schema"] for one in listed if one["name"] == "tags")
    assert any(one.get("type") == "array" for one in tags["anyOf"])


async def test_the_description_is_served_as_json(server: Server, whole: dict[str, Any]) -> None:
    first = await server.http.get("/openapi.json")
    assert first.headers["content-type"] == "application/json"
    assert orjson.loads(first.content) == orjson.loads(orjson.dumps(whole))
    assert (await server.http.get("/openapi.json")).content == first.content


def test_every_example_is_what_its_route_takes_and_gives() -> None:
    calls = {call.name: call for call in ENDPOINTS}
    shown = examples()
    assert {"ask_why", "show_compaction", "preview_compaction", "show_window"} <= set(shown)
    for name, parts in shown.items():
        call = calls[name]
        TypeAdapter[Any](call.answer).validate_python(parts["answer"])
        if call.body is not None and "body" in parts:
            call.body.model_validate(parts["body"])
    operation = document(ENDPOINTS)["paths"]["/v1/conversations/{conversation_id}/why"]["get"]
    content = operation["responses"]["200"]["content"]["application/json"]
    assert content["example"] == shown["ask_why"]["answer"]
