"""Three real servers on one Postgres: any of them serves anything, and each thing is done once."""

import asyncio
from collections.abc import AsyncGenerator

import httpx2
import pytest

from tests.databases import cluster
from tests.vendor import Vendor
from tests.whole.client import facts_of, of, until, verified
from tests.whole.nodes import Node, conversations, new_database, nodes
from tests.whole.test_two_nodes import check_fence, owner_of, say

NODES, MESSAGES, CONVERSATIONS, RUNS = 3, 200, 20, 20
CUTS = 20
pytestmark = pytest.mark.slow


@pytest.fixture
async def vendor() -> AsyncGenerator[Vendor]:
    async with Vendor() as vendor:
        yield vendor


@pytest.fixture
async def three(vendor: Vendor) -> AsyncGenerator[list[Node]]:
    url = cluster().url_of(new_database(cluster()))
    async with nodes([url] * NODES, vendor) as found:
        yield found


async def test_two_hundred_messages_at_once_are_two_hundred_runs(
    three: list[Node], vendor: Vendor
) -> None:
    streams = await conversations(three[0].client, CONVERSATIONS)

    async def ask(number: int) -> None:
        path = f"/v1/conversations/{streams[number % CONVERSATIONS]}/messages"
        body = {"input": f"Number {number}. [[words:3]]", "streaming": False}
        answer = await three[number % NODES].client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["stop_reason"]["stop_reason"] == "end_turn"

    await asyncio.gather(*map(ask, range(MESSAGES)))
    assert len(vendor.bodies) == MESSAGES
    said: list[str] = []
    for stream in streams:
        facts = await facts_of(three[1].client, stream)
        check_fence(facts)
        kinds = [one["type"] for one in of(facts, "step.started", "step.finished")]
        assert kinds == ["step.started", "step.finished"] * (MESSAGES // CONVERSATIONS)
        finished = [one["data"]["run_id"] for one in of(facts, "run.finished")]
        assert len(finished) == len(set(finished)) == MESSAGES // CONVERSATIONS
        said += [one["data"]["content"] for one in of(facts, "message.appended")]
        await verified(three[2].client, stream)
    assert len(said) == len(set(said)) == MESSAGES


async def test_a_run_is_followed_on_another_node_byte_for_byte(three: list[Node]) -> None:
    worker, other = three[0].client, three[1].client
    (stream,) = await conversations(worker, 1)
    path = f"/v1/conversations/{stream}"
    body = {"input": "[[words:60]][[delay:20]]", "stream_tokens": True}
    talk = asyncio.create_task(worker.post(f"{path}/messages", json=body))
    facts = await until(other, stream, lambda all: of(all, "step.delta"))
    assert owner_of(facts) == "node-0"
    run = of(facts, "run.queued")[0]
    resume = {"run_id": run["data"]["run_id"], "starting_after": run["offset"] - 1}
    followed = await other.post(f"{path}/stream", json=resume)
    assert followed.content == (await talk).content
    later = await three[2].client.post(f"{path}/stream", json=resume)
    assert later.content == followed.content


async def test_events_are_followed_on_every_node_byte_for_byte(three: list[Node]) -> None:
    (stream,) = await conversations(three[0].client, 1)
    path = f"/v1/conversations/{stream}/events"

    async def follow(client: httpx2.AsyncClient) -> bytes:
        seen = b""
        headers = {"accept": "text/event-stream"}
        async with client.stream("GET", path, params={"follow": "true"}, headers=headers) as sent:
            async for piece in sent.aiter_bytes():
                seen += piece
                if b"event: run.finished" in seen and seen.endswith(b"\n\n"):
                    return seen
        return seen

    following = [asyncio.create_task(follow(one.client)) for one in three]
    await say(three[1].client, stream, "[[words:60]][[delay:10]]")
    first, *others = await asyncio.gather(*following)
    assert all(one == first for one in others)
    assert first.count(b"id: ") == len(await facts_of(three[0].client, stream))


async def test_what_a_killed_node_was_at_is_finished_by_the_others(
    three: list[Node], vendor: Vendor
) -> None:
    first, second = three[0].client, three[1].client
    streams = await conversations(first, RUNS)
    words = "[[words:100]][[hold:5]]"
    talks = [asyncio.create_task(say(first, stream, words)) for stream in streams]
    for stream in streams:
        facts = await until(second, stream, lambda all: of(all, "step.delta"))
        assert owner_of(facts) == "node-0"
    three[0].server.kill()
    await asyncio.wait(talks)
    vendor.go_on()
    for stream in streams:
        facts = await until(second, stream, lambda all: of(all, "run.finished"))
        assert owner_of(facts) in ("node-1", "node-2")
        check_fence(facts)
        (end,) = of(facts, "run.finished")
        assert end["data"]["status"] == "completed"


async def test_a_node_that_only_serves_leaves_runs_to_the_others(vendor: Vendor) -> None:
    url = cluster().url_of(new_database(cluster()))
    async with (
        nodes([url], vendor, EVERLOG_RUNS_AT_ONCE_MAX="0") as (front,),
        nodes([url], vendor, EVERLOG_RUNS_AT_ONCE_MAX="2") as (back,),
    ):
        streams = await conversations(front.client, 6)
        talks = [say(front.client, stream, "[[words:5]][[delay:10]]") for stream in streams]
        for text in await asyncio.gather(*talks):
            assert text.endswith("data: [DONE]\n\n")
        assert len(vendor.bodies) == 6
        for stream in streams:
            facts = await facts_of(back.client, stream)
            assert len(of(facts, "run.claimed")) == len(of(facts, "run.finished")) == 1


async def test_followers_miss_nothing_while_their_node_cannot_listen(three: list[Node]) -> None:
    (stream,) = await conversations(three[0].client, 1)
    path = f"/v1/conversations/{stream}"
    body = {"input": "[[words:900]][[delay:10]]", "stream_tokens": True}
    talk = asyncio.create_task(three[0].client.post(f"{path}/messages", json=body))
    facts = await until(three[1].client, stream, lambda all: of(all, "step.delta"))
    run = of(facts, "run.queued")[0]
    resume = {"run_id": run["data"]["run_id"], "starting_after": run["offset"] - 1}
    followers = [
        asyncio.create_task(one.client.post(f"{path}/stream", json=resume)) for one in three[1:]
    ]
    for _ in range(CUTS):
        await asyncio.sleep(0.2)
        cluster().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE '%% ear' AND application_name LIKE 'everlog serve node-%%'"
        )
    await three[2].client.post(f"{path}/cancel")
    whole = (await talk).content
    assert b'"stop_reason":"cancelled"' in whole
    for follower in followers:
        assert (await follower).content == whole
