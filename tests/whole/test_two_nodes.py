"""Two servers on one database, their clocks hours apart; one is stopped and takes no part for long."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

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

HOUR_S = 3600
CONVERSATIONS = 5
pytestmark = pytest.mark.slow


@contextmanager
def two_nodes(database: Path, vendor: Vendor) -> Generator[tuple[Server, Server]]:
    environment = {"ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": vendor.base_url}
    with (
        serving(
            database,
            module="tests.whole.node",
            EVERLOG_NODE="early",
            CLOCK_SKEW_S=str(HOUR_S),
            **environment,
        ) as one,
        serving(
            database,
            module="tests.whole.node",
            EVERLOG_NODE="late",
            CLOCK_SKEW_S=str(-HOUR_S),
            **environment,
        ) as other,
    ):
        yield one, other


async def say(client: httpx2.AsyncClient, conversation_id: str, words: str) -> str:
    """Send a message and read its stream as long as it lasts."""
    path = f"/v1/conversations/{conversation_id}/messages"
    try:
        answer = await client.post(path, json={"input": words, "stream_tokens": True})
    except httpx2.HTTPError:
        return ""
    return answer.text


def owner_of(facts: list[Fact]) -> str:
    return of(facts, "run.claimed")[-1]["data"]["node"]


def check_fence(facts: list[Fact]) -> None:
    """No fact of an old epoch stands after the claim of a newer one."""
    epochs: dict[str, int] = {}
    step = 0
    for fact in facts:
        data = fact["data"]
        if fact["type"] == "run.claimed":
            assert data["epoch"] == epochs.get(data["run_id"], 0) + 1
            epochs[data["run_id"]], step = data["epoch"], 0
        elif fact["type"] == "step.started":
            assert data["epoch"] == epochs[data["run_id"]]
            step = fact["offset"]
        elif fact["type"] in ("step.delta", "step.part", "step.finished"):
            assert data["s"] == step
        elif fact["type"] == "run.finished":
            assert data["epoch"] == epochs[data["run_id"]]


async def test_a_node_that_was_stopped_past_its_lease_writes_nothing_more(tmp_path: Path) -> None:
    async with Vendor() as vendor:
        with two_nodes(tmp_path / "shared.db", vendor) as (one, other):
            async with client_of(one) as first, client_of(other) as second:
                agent = await new_agent(first, "anthropic/claude-haiku-4-5")
                streams = [await new_conversation(first, agent) for _ in range(CONVERSATIONS)]
                talks = [
                    asyncio.create_task(say(first, stream, "[[words:40]][[hold:5]]"))
                    for stream in streams
                ]
                for stream in streams:
                    facts = await until(second, stream, lambda all: of(all, "step.delta"))
                    assert owner_of(facts) == "early"
                one.pause()
                vendor.go_on()
                for stream in streams:
                    facts = await until(second, stream, lambda all: of(all, "run.finished"))
                    assert owner_of(facts) == "late"
                one.go_on()
                for talk in talks:
                    # The paused node's own client sees the end that the other one wrote.
                    assert (await talk).endswith("data: [DONE]\n\n")
                for stream in streams:
                    facts = await facts_of(second, stream)
                    check_fence(facts)
                    assert len(of(facts, "run.finished")) == 1
                    assert of(facts, "run.finished")[0]["data"]["status"] == "completed"
                    assert [fact["offset"] for fact in facts] == list(range(1, len(facts) + 1))
                    assert sorted(one["at"] for one in facts) == [one["at"] for one in facts]
                    assert await facts_of(first, stream) == facts
                    await verified(first, stream)
                assert len(vendor.bodies) == 2 * CONVERSATIONS


async def test_a_run_is_cancelled_from_the_node_that_does_not_own_it(tmp_path: Path) -> None:
    async with Vendor() as vendor:
        with two_nodes(tmp_path / "shared.db", vendor) as (one, other):
            async with client_of(one) as first, client_of(other) as second:
                agent = await new_agent(first, "anthropic/claude-haiku-4-5")
                stream = await new_conversation(first, agent)
                talk = asyncio.create_task(say(first, stream, "[[words:40]][[silence:5]]"))
                await until(second, stream, lambda all: of(all, "step.delta"))
                told = await second.post(f"/v1/conversations/{stream}/cancel")
                assert list(told.json().values()) == ["cancelled"]
                await vendor.until(lambda all: all.aborted == 1)
                assert '"stop_reason":"cancelled"' in await talk
                facts = await until(second, stream, lambda all: of(all, "run.finished"))
                assert of(facts, "step.finished")[0]["data"]["outcome"] == "interrupted"
                check_fence(facts)


async def test_one_key_sent_to_both_nodes_at_once_is_one_run(tmp_path: Path) -> None:
    async with Vendor() as vendor:
        with two_nodes(tmp_path / "shared.db", vendor) as (one, other):
            async with client_of(one) as first, client_of(other) as second:
                stream = await new_conversation(
                    first, await new_agent(first, "anthropic/claude-haiku-4-5")
                )

                async def ask(client: httpx2.AsyncClient) -> str:
                    answer = await client.post(
                        f"/v1/conversations/{stream}/messages",
                        json={"input": "[[words:20]][[delay:20]]", "stream_tokens": True},
                        headers={"idempotency-key": "the-one"},
                    )
                    assert answer.status_code == 200, answer.text
                    return answer.text

                answers = await asyncio.gather(*(ask(client) for client in [first, second] * 5))
                assert len(set(answers)) == 1
                facts = await facts_of(first, stream)
                assert len(of(facts, "run.queued")) == len(of(facts, "run.finished")) == 1
                assert len(vendor.bodies) == 1


async def test_messages_sent_to_both_nodes_take_turns(tmp_path: Path) -> None:
    async with Vendor() as vendor:
        with two_nodes(tmp_path / "shared.db", vendor) as (one, other):
            async with client_of(one) as first, client_of(other) as second:
                stream = await new_conversation(
                    first, await new_agent(first, "anthropic/claude-haiku-4-5")
                )

                async def ask(client: httpx2.AsyncClient, number: int) -> None:
                    body = {"input": f"Number {number}. [[words:5]]", "streaming": False}
                    answer = await client.post(f"/v1/conversations/{stream}/messages", json=body)
                    assert answer.json()["stop_reason"]["stop_reason"] == "end_turn"

                clients = [first, second] * 5
                await asyncio.gather(*(ask(one, n) for n, one in enumerate(clients)))
                facts = await facts_of(second, stream)
                assert len(of(facts, "run.queued")) == len(of(facts, "run.finished")) == 10
                # Never two steps at once, and every message in the window of its own turn.
                kinds = [one["type"] for one in of(facts, "step.started", "step.finished")]
                assert kinds == ["step.started", "step.finished"] * 10
                assert len(vendor.bodies) == 10
                await verified(first, stream)


async def test_what_a_killed_node_was_at_is_finished_by_the_other(tmp_path: Path) -> None:
    async with Vendor() as vendor:
        with two_nodes(tmp_path / "shared.db", vendor) as (one, other):
            async with client_of(one) as first, client_of(other) as second:
                agent = await new_agent(first, "anthropic/claude-haiku-4-5")
                streams = [await new_conversation(first, agent) for _ in range(CONVERSATIONS)]
                talks = [
                    asyncio.create_task(say(first, stream, "[[words:40]][[hold:5]]"))
                    for stream in streams
                ]
                for stream in streams:
                    await until(second, stream, lambda all: of(all, "step.delta"))
                one.kill()
                await asyncio.wait(talks)
                vendor.go_on()
                for stream in streams:
                    facts = await until(second, stream, lambda all: of(all, "run.finished"))
                    assert owner_of(facts) == "late"
                    check_fence(facts)
                    assert of(facts, "run.finished")[0]["data"]["status"] == "completed"
