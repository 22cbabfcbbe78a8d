"""Runs in a real process: cancelled in every phase, asked for twenty times, cut off, handed over."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.vendor import Vendor
from tests.whole.client import (
    Fact,
    client_of,
    facts_of,
    new_agent,
    new_conversation,
    of,
    until,
    verified,
)
from tests.whole.server import Server, serving

FINISHED = 1000
UNFINISHED = 50
MODEL = "anthropic/claude-haiku-4-5"
DONE = "data: [DONE]\n\n"
pytestmark = pytest.mark.slow


@pytest.fixture
async def vendor() -> AsyncGenerator[Vendor]:
    async with Vendor() as vendor:
        yield vendor


@pytest.fixture
def server(tmp_path: Path, vendor: Vendor) -> Generator[Server]:
    with serving(
        tmp_path / "runs.db",
        ANTHROPIC_API_KEY="none",
        ANTHROPIC_BASE_URL=vendor.base_url,
        EVERLOG_DEMO_WORD_DELAY_S="0.01",
    ) as server:
        yield server


def messages(conversation_id: str) -> str:
    return f"/v1/conversations/{conversation_id}/messages"


async def cancel(client: httpx2.AsyncClient, conversation_id: str) -> httpx2.Response:
    return await client.post(f"/v1/conversations/{conversation_id}/cancel")


def spoken(facts: list[Fact]) -> str:
    return "".join(one["data"]["x"] for one in of(facts, "step.delta"))


def ends_of(text: str) -> list[str]:
    """Give what a stream ended with: its last frame's stop reason, and the end mark."""
    *_, stop, end = [line for line in text.splitlines() if line]
    return [json.loads(stop[6:])["stop_reason"], end]


def check_cancelled(facts: list[Fact]) -> None:
    """Exactly one end, and after the cancel's offset nothing of the model or a tool but closings."""
    (asked,) = of(facts, "run.cancel_requested")
    for run_id in asked["data"]["run_ids"]:
        ends = [one for one in of(facts, "run.finished") if one["data"]["run_id"] == run_id]
        assert [one["data"]["status"] for one in ends] == ["cancelled"]
    after = [fact for fact in facts if fact["offset"] > asked["offset"]]
    assert of(after, "step.started", "step.delta", "tool.started") == []
    for one in of(after, "step.finished"):
        assert one["data"]["outcome"] == "interrupted"
    for one in of(after, "tool.finished"):
        assert one["data"]["status"] in ("cancelled", "denied")


# --- cancel in every phase ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        ("[[words:9]][[silence:0]]", "step.started", ""),
        ("[[words:9]][[silence:4]]", "step.delta", "word0 word1 word2 word3 "),
        ("[[words:400]][[delay:20]]", "step.delta", None),
    ],
    ids=["silent from the start", "silent in mid-reply", "talking"],
)
@pytest.mark.parametrize("stream_tokens", [True, False], ids=["tokens", "whole"])
async def test_a_cancel_closes_the_upstream_and_keeps_what_was_said(
    server: Server, vendor: Vendor, moment: tuple[str, str, str | None], stream_tokens: bool
) -> None:
    words, phase, said = moment
    async with client_of(server) as client:
        stream = await new_conversation(client, await new_agent(client, MODEL))
        body = {"input": words, "stream_tokens": stream_tokens}
        talk = asyncio.create_task(client.post(messages(stream), json=body))
        await vendor.until(lambda all: len(all.bodies) == 1)
        await until(client, stream, lambda facts: of(facts, phase))
        if said is not None:
            await until(client, stream, lambda facts: spoken(facts) == said)
        told = await cancel(client, stream)
        assert list(told.json().values()) == ["cancelled"]
        await vendor.until(lambda all: all.aborted == 1)
        assert ends_of((await talk).text) == ["cancelled", "data: [DONE]"]
        facts = await facts_of(client, stream)
        check_cancelled(facts)
        deltas = spoken(facts)
        parts = "".join(one["data"]["text"] for one in of(facts, "step.part"))
        assert parts == deltas
        assert said is None or deltas == said
        again = await cancel(client, stream)
        assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")
        assert await facts_of(client, stream) == facts
        answer = await client.post(messages(stream), json={"input": "[[text:on]]"})
        assert '"content":"on"' in answer.text


async def test_a_cancel_reaches_runs_that_wait_and_tools_that_run(server: Server) -> None:
    async with client_of(server) as client:
        agent = await new_agent(client, "demo/echo", tools=["demo_wait"])
        stream = await new_conversation(client, agent)
        ask = {"input": 'call demo_wait {"seconds": 30}'}
        talk = asyncio.create_task(client.post(messages(stream), json=ask))
        await until(client, stream, lambda facts: of(facts, "tool.started"))
        waiting = asyncio.create_task(
            client.post(messages(stream), json={"input": "next", "streaming": False})
        )
        await until(client, stream, lambda facts: of(facts, "message.queued"))
        assert list((await cancel(client, stream)).json().values()) == ["cancelled"] * 2
        assert ends_of((await talk).text) == ["cancelled", "data: [DONE]"]
        assert (await waiting).json()["stop_reason"]["stop_reason"] == "cancelled"
        facts = await facts_of(client, stream)
        check_cancelled(facts)
        assert of(facts, "tool.finished")[0]["data"]["status"] == "cancelled"
        assert len(of(facts, "message.withdrawn")) == 1
        answer = await client.post(messages(stream), json={"input": "And now?"})
        assert answer.text.endswith(DONE)
        await verified(client, stream)


async def test_a_cancel_denies_what_waits_for_approval(server: Server) -> None:
    async with client_of(server) as client:
        stream = await new_conversation(client, await new_agent(client, "demo/echo"))
        ask = {"input": "call weather {}", "client_tools": [{"name": "weather"}]}
        asked = (await client.post(messages(stream), json=ask)).text
        assert '"stop_reason":"requires_approval"' in asked
        assert list((await cancel(client, stream)).json().values()) == ["cancelled"]
        facts = await facts_of(client, stream)
        assert of(facts, "tool.finished")[0]["data"]["status"] == "denied"
        assert len(of(facts, "run.finished")) == 1
        answer = await client.post(messages(stream), json={"input": "Never mind."})
        assert '"stop_reason":"end_turn"' in answer.text


# --- the same request, many times ---------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_twenty_requests_with_one_key_are_one_run(server: Server, streaming: bool) -> None:
    async with client_of(server) as client:
        stream = await new_conversation(client, await new_agent(client, "demo/steady"))

        async def ask() -> str:
            body = {"input": "Once.", "streaming": streaming, "stream_tokens": streaming}
            headers = {"idempotency-key": "the-one"}
            answer = await client.post(messages(stream), json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer.text

        answers = await asyncio.gather(*(ask() for _ in range(20)))
        assert len(set(answers)) == 1
        server.kill()
        server.start()
        assert await ask() == answers[0]
        facts = await facts_of(client, stream)
        assert len(of(facts, "run.queued")) == len(of(facts, "run.finished")) == 1
        assert len(of(facts, "message.appended")) == 1


# --- crashes ------------------------------------------------------------------------------------


async def test_the_model_is_called_once_a_step_and_once_more_for_each_crash(
    server: Server, vendor: Vendor
) -> None:
    async with client_of(server) as client:
        agent = await new_agent(client, MODEL)
        streams = [await new_conversation(client, agent) for _ in range(6)]
        for number, stream in enumerate(streams):
            body = {"input": f"Number {number}: [[words:60]][[delay:50]]", "background": True}
            asyncio.get_running_loop().create_task(quietly(client, messages(stream), body))
        for _ in range(2):
            await until(client, streams[0], lambda facts: of(facts, "step.delta"))
            server.kill()
            server.start()
        for number, stream in enumerate(streams):
            facts = await until(client, stream, lambda facts: of(facts, "run.finished"))
            assert of(facts, "run.finished")[0]["data"]["status"] == "completed"
            said = f"Number {number}: "
            calls = sum(said in json.dumps(body["messages"]) for body in vendor.bodies)
            lost = of(facts, "step.superseded")
            assert calls <= 1 + len(lost) <= 3
            assert len(of(facts, "step.started")) == 1 + len(lost)
            await verified(client, stream)


async def quietly(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> None:
    """Send a request and not mind that its answer breaks off."""
    try:
        await client.post(path, json=body)
    except httpx2.HTTPError:
        return


async def test_a_tool_that_was_running_in_a_crash_is_not_run_again(server: Server) -> None:
    async with client_of(server) as client:
        agent = await new_agent(client, "demo/echo", tools=["demo_wait"])
        stream = await new_conversation(client, agent)
        ask = {"input": 'call demo_wait {"seconds": 20}'}
        talk = asyncio.create_task(quietly(client, messages(stream), ask))
        await until(client, stream, lambda facts: of(facts, "tool.started"))
        server.kill()
        await talk
        server.start()
        facts = await until(client, stream, lambda facts: of(facts, "run.finished"))
        assert len(of(facts, "tool.started")) == 1
        assert of(facts, "tool.finished")[0]["data"]["status"] == "unknown"
        assert of(facts, "run.finished")[0]["data"]["stop_reason"] == "end_turn"


async def test_every_unfinished_run_among_many_finished_ones_is_taken_up_at_a_restart(
    server: Server,
) -> None:
    async with client_of(server) as client:
        agent = await new_agent(client, "demo/echo")
        await asyncio.gather(*(worker(client, agent, FINISHED // 20) for _ in range(20)))
        slow = await new_agent(client, "demo/steady")
        streams = [await new_conversation(client, slow) for _ in range(UNFINISHED)]
        talks = [
            asyncio.create_task(quietly(client, messages(stream), {"input": "Go on."}))
            for stream in streams
        ]
        for stream in streams:
            await until(client, stream, lambda facts: of(facts, "step.delta"))
        server.kill()
        await asyncio.wait(talks)
        server.start()
        for stream in streams:
            facts = await until(client, stream, lambda facts: of(facts, "run.finished"))
            assert [one["data"]["status"] for one in of(facts, "run.finished")] == ["completed"]
        left = await client.get("/v1/runs/", params={"active": "true"})
        assert left.json() == []


async def worker(client: httpx2.AsyncClient, agent: str, count: int) -> None:
    for _ in range(count):
        stream = await new_conversation(client, agent)
        body = {"input": "Hi.", "streaming": False}
        assert (await client.post(messages(stream), json=body)).status_code == 200


# --- going down ---------------------------------------------------------------------------------


async def test_a_server_told_to_stop_finishes_what_is_short_and_hands_over_what_is_not(
    server: Server, vendor: Vendor
) -> None:
    async with client_of(server) as client:
        agent = await new_agent(client, MODEL)
        short, long, silent = [await new_conversation(client, agent) for _ in range(3)]
        talks = [
            asyncio.create_task(client.post(messages(stream), json={"input": words}))
            for stream, words in (
                (short, "[[words:40]][[delay:20]]"),
                (long, "[[words:900]][[delay:20]]"),
                (silent, "[[words:9]][[silence:2]]"),
            )
        ]
        await vendor.until(lambda all: len(all.bodies) == 3)
        await until(client, silent, lambda facts: of(facts, "step.delta"))
        assert await asyncio.to_thread(server.stop) == 0
        whole, *broken = [(await talk).text for talk in talks]
        assert whole.endswith(DONE)
        for text in broken:
            assert text.endswith("reconnect and resume from the last id\n\n")
        server.start()
        vendor_calls = len(vendor.bodies)
        for stream in (long, silent):
            assert (await cancel(client, stream)).status_code == 200
        assert len(of(await facts_of(client, short), "run.claimed")) == 1
        assert vendor_calls <= 5


async def test_a_second_signal_is_no_traceback(server: Server) -> None:
    server.tell(signal.SIGTERM)
    assert await asyncio.to_thread(server.stop) == 0
