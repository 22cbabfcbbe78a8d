"""Tools that the server runs: a fact before, a fact after, and none twice that must not be."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.run import RunFinished, ToolFinished, ToolStarted
from tests.app.scripts import calling, saying, told
from tests.app.serving import Scripted, Server, serving


async def answered(
    tmp_path: Path, model: Scripted, *tools: str, **body: Any
) -> tuple[dict[str, Any], list[Any]]:
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(await server.agent("script/x", tools=tools))
        answer = await server.post(stream, "Use it.", streaming=False, **body)
        return answer.json(), await server.events(stream)


def of(facts: list[Any], kind: type[Any]) -> list[Any]:
    return [one for one in facts if isinstance(one, kind)]


async def test_a_tool_is_run_and_the_model_told(tmp_path: Path) -> None:
    model = Scripted(calling("demo_count", arguments='{"text": "a b c"}'), saying("Three."))
    answer, facts = await answered(tmp_path, model, "demo_count", "demo_wait")
    assert [one["message_type"] for one in answer["messages"]] == [
        "tool_call_message",
        "tool_return_message",
        "assistant_message",
    ]
    (begun,), (done,) = of(facts, ToolStarted), of(facts, ToolFinished)
    assert (begun.idempotent, begun.epoch, begun.message_id) == (True, 1, done.message_id)
    assert (done.status, done.content, done.source) == ("ok", "3", "server")
    assert [tool.name for tool in model.requests[0].tools] == ["demo_count", "demo_wait"]
    assert told(model.requests[1])[-1] == ("user", "ok: 3")
    assert answer["usage"]["step_count"] == 2


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("nothing", "{}", "There is no tool 'nothing' to run here"),
        ("demo_wait", "{}", "There is no tool 'demo_wait' to run here"),
        ("demo_count", "{", "The arguments are not JSON"),
        ("demo_count", "[1]", "not a JSON object"),
        ("demo_count", '{"text":' * 100_000, "they nest too deep"),
        ("demo_count", f'{{"text": {"[" * 100_000}{"]" * 100_000}}}', "they nest too deep"),
        ("demo_count", '{"text": 1}', "text: a string is needed"),
    ],
)
async def test_what_cannot_be_run_is_told_to_the_model(
    tmp_path: Path, name: str, arguments: str, words: str
) -> None:
    model = Scripted(calling(name, arguments=arguments), saying("Sorry."))
    answer, facts = await answered(tmp_path, model, "demo_count")
    assert words in answer["messages"][1]["tool_return"]
    assert answer["messages"][1]["status"] == "error"
    assert answer["messages"][-1]["content"] == "Sorry."
    assert of(facts, RunFinished)[0].stop_reason == "end_turn"


async def test_a_tool_may_take_only_so_long(tmp_path: Path) -> None:
    model = Scripted(calling("demo_wait", arguments='{"seconds": 30}'), saying("Late."))
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", model, tool_timeout_s=0.1) as server,
    ):
        stream = await server.conversation(await server.agent("script/x", tools=("demo_wait",)))
        answer = await server.post(stream, streaming=False)
    assert answer.json()["messages"][1]["tool_return"] == "The tool took longer than 0.1 s."


async def test_a_turn_ends_at_its_limit_of_steps_with_every_call_returned(tmp_path: Path) -> None:
    model = Scripted(calling("demo_count", arguments='{"text": "a"}'))
    answer, facts = await answered(tmp_path, model, "demo_count", max_steps=3)
    assert answer["stop_reason"]["stop_reason"] == "max_steps"
    assert len(of(facts, ToolFinished)) == len(model.requests) == 3


async def test_several_calls_are_run_in_their_order(tmp_path: Path) -> None:
    model = Scripted(
        calling("demo_count", "demo_count", "nothing", arguments='{"text": "a"}'), saying("Done.")
    )
    _, facts = await answered(tmp_path, model, "demo_count")
    assert [one.tool_call_id for one in of(facts, ToolFinished)] == ["call-0", "call-1", "call-2"]
    assert [one.status for one in of(facts, ToolFinished)] == ["ok", "ok", "error"]


async def killed_in_a_tool(tmp_path: Path, idempotent: bool) -> tuple[list[Any], Scripted]:
    """Kill the server while a tool runs; give the facts and the second life's model."""

    def patched(server: Server) -> Server:
        tool = server.services.toolbox.get("demo_wait")
        assert tool is not None
        tool.idempotent = idempotent
        return server

    ask = calling("demo_wait", arguments='{"seconds": 30}' if not idempotent else '{"seconds": 1}')
    async with asyncio.timeout(60), serving(tmp_path / "a.db", Scripted(ask)) as server:
        stream = await patched(server).conversation(
            await server.agent("script/x", tools=("demo_wait",))
        )
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, ToolStarted)
        await server.kill()
        await asyncio.wait([post])
    model = Scripted(saying("On."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", model) as server:
        patched(server)
        await server.until_there_is(stream, RunFinished)
        return await server.events(stream), model


async def test_what_a_crash_interrupted_is_not_run_again(tmp_path: Path) -> None:
    facts, model = await killed_in_a_tool(tmp_path, idempotent=False)
    assert len(of(facts, ToolStarted)) == 1
    (done,) = of(facts, ToolFinished)
    assert (done.status, done.source) == ("unknown", "system")
    assert "not known" in told(model.requests[0])[-1][1]
    assert of(facts, RunFinished)[0].status == "completed"


async def test_but_what_may_be_is(tmp_path: Path) -> None:
    facts, model = await killed_in_a_tool(tmp_path, idempotent=True)
    assert [one.epoch for one in of(facts, ToolStarted)] == [1, 2]
    (done,) = of(facts, ToolFinished)
    assert (done.status, done.content) == ("ok", "Waited for 1 s.")
    assert told(model.requests[0])[-1] == ("user", "ok: Waited for 1 s.")


@pytest.mark.parametrize(
    ("text", "reason", "steps"), [('"a b"', "tool_rule", 1), ("1", "end_turn", 2)]
)
async def test_the_success_of_a_terminal_tool_ends_the_turn(
    tmp_path: Path, text: str, reason: str, steps: int
) -> None:
    model = Scripted(
        calling("demo_count", "demo_count", arguments=f'{{"text": {text}}}'), saying("Hm.")
    )
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        rule = {"type": "exit_loop", "tool_name": "demo_count"}
        body = {"model": "script/x", "tools": ["demo_count"], "tool_rules": [rule]}
        agent = (await server.http.post("/v1/agents/", json=body)).json()
        assert agent["tool_rules"] == [rule]
        stream = await server.conversation(agent["id"])
        answer = (await server.post(stream, streaming=False)).json()
        facts = await server.events(stream)
        after = (await server.post(stream, "And now?", streaming=False)).json()
    assert answer["stop_reason"]["stop_reason"] == reason
    assert answer["usage"]["step_count"] == steps
    assert len(of(facts, ToolFinished)) == 2
    assert of(facts, RunFinished)[0].status == "completed"
    assert after["messages"][-1]["content"] == "Hm."


async def test_agents_are_given_tools_that_there_are(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        rules = [{"type": "requires_approval", "tool_name": "demo_wait"}]
        body = {
            "model": "demo/echo",
            "tools": ["demo_wait", "demo_count"],
            "tool_rules": rules,
            "include_base_tools": False,
        }
        agent = (await server.http.post("/v1/agents/", json=body)).json()
        assert [one["name"] for one in agent["tools"]] == ["demo_wait", "demo_count"]
        assert agent["tool_rules"] == rules
        path = f"/v1/agents/{agent['id']}"
        changed = await server.http.patch(path, json={"tools": [], "tool_rules": []})
        assert (changed.json()["tools"], changed.json()["tool_rules"]) == ([], [])
        for bad, status in (
            ({"tools": ["nothing"]}, 404),
            ({"tool_rules": [{"type": "run_first", "tool_name": "demo_wait"}]}, 501),
            ({"tool_rules": [{"type": "requires_approval", "tool_name": "nothing"}]}, 404),
        ):
            assert (await server.http.patch(path, json=bad)).status_code == status
        gone = await server.http.patch(
            f"{path}/tools/approval/nothing", json={"requires_approval": True}
        )
        assert gone.status_code == 404
