"""A run's tokens and steps, and taking it out of sight."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.providers import ModelError
from domain.run import StepDelta, Usage
from tests.app.scripts import Gate, calling, failing, saying
from tests.app.serving import Scripted, Server, serving

USAGE = Usage(
    input_tokens=20,
    output_tokens=3,
    cached_input_tokens=5,
    cache_write_tokens=2,
    reasoning_tokens=1,
)


async def run_of(server: Server, stream: str) -> str:
    return (await server.get("/v1/runs/", conversation_id=stream))[0]["id"]


async def test_tokens_are_summed_over_the_steps(tmp_path: Path) -> None:
    model = Scripted(calling("demo_count"), saying("Done.", usage=USAGE))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(await server.agent("script/x", tools=("demo_count",)))
        await server.post(stream)
        usage = await server.get(f"/v1/runs/{await run_of(server, stream)}/usage")
    assert usage == {
        "completion_tokens": 3,
        "prompt_tokens": 20,
        "total_tokens": 23,
        "prompt_tokens_details": {
            "cached_tokens": 5,
            "cache_read_tokens": 5,
            "cache_creation_tokens": 2,
        },
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


async def test_a_run_under_way_has_its_tokens_so_far(tmp_path: Path) -> None:
    gate = Gate("Half")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        run_id = await run_of(server, stream)
        usage = await server.get(f"/v1/runs/{run_id}/usage")
        (step,) = await server.get(f"/v1/runs/{run_id}/steps")
        refused = await server.http.delete(f"/v1/runs/{run_id}")
        gate.opened.set()
        await post
    assert (usage["total_tokens"], usage["prompt_tokens_details"]) == (0, None)
    assert (step["status"], step["stop_reason"]) == ("pending", None)
    assert refused.status_code == 409
    assert "cancel it first" in refused.json()["detail"]


async def test_steps_are_listed_with_their_tries_and_walked_both_ways(tmp_path: Path) -> None:
    (down,) = failing(ModelError("llm_error", "down"))
    model = Scripted(
        down, calling("demo_count", arguments='{"text": "a"}'), saying("Done.", usage=USAGE)
    )
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(await server.agent("script/x", tools=("demo_count",)))
        await server.post(stream)
        path = f"/v1/runs/{await run_of(server, stream)}/steps"
        steps = await server.get(path, order="asc")
        ids = [one["id"] for one in steps]
        newest = await server.get(path)
        page = await server.get(path, order="asc", after=ids[0], limit=1)
        back = await server.get(path, order="asc", before=ids[2], limit=1)
        unknown = await server.http.get(path, params={"after": "step-x"})
    assert [(one["index"], one["attempt"], one["status"]) for one in steps] == [
        (0, 1, "failed"),
        (0, 2, "success"),
        (1, 1, "success"),
    ]
    assert [one["stop_reason"] for one in steps] == [None, None, "end_turn"]
    assert steps[0]["error_type"] == "provider_error"
    assert steps[2]["prompt_tokens"] == 20
    assert (steps[2]["model_handle"], steps[2]["provider_name"]) == ("script/x", "script")
    assert steps[2]["context_window_limit"] == 128_000
    assert [one["id"] for one in newest] == ids[::-1]
    assert [one["id"] for one in page] == [one["id"] for one in back] == [ids[1]]
    assert unknown.status_code == 404


async def test_a_failed_step_says_why(tmp_path: Path) -> None:
    model = Scripted(*failing(ModelError("llm_bad_request", "No.")))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        (step,) = await server.get(f"/v1/runs/{await run_of(server, stream)}/steps")
    assert (step["status"], step["error_type"]) == ("failed", "llm_bad_request")
    assert step["error_data"]["message"] == "No."


async def test_a_deleted_run_is_out_of_sight_and_its_messages_stay(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        key = {"idempotency-key": "k"}
        path = f"/v1/conversations/{stream}/messages"
        body: dict[str, Any] = {"input": "Hi.", "streaming": False}
        first = await server.http.post(path, json=body, headers=key)
        run_id = await run_of(server, stream)
        assert (await server.http.delete(f"/v1/runs/{run_id}")).json() is None
        for method, part in (("GET", ""), ("GET", "/usage"), ("GET", "/steps"), ("DELETE", "")):
            answer = await server.http.request(method, f"/v1/runs/{run_id}{part}")
            assert answer.status_code == 404
        assert await server.get("/v1/runs/", conversation_id=stream) == []
        assert len(await server.get(path)) == 3
        assert (await server.http.post(path, json=body, headers=key)).text == first.text


@pytest.mark.parametrize("part", ["", "/usage", "/steps", "/messages"])
async def test_an_unknown_run_is_not_there(tmp_path: Path, part: str) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        unknown = await server.http.get(f"/v1/runs/run-00000000-0000-4000-8000-000000000000{part}")
        malformed = await server.http.get(f"/v1/runs/run-1{part}")
    assert (unknown.status_code, malformed.status_code) == (404, 400)
