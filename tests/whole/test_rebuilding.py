"""Requests rebuilt by a real process, and by the next one that has no key."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.vendor import Vendor
from tests.whole.client import Fact, client_of, facts_of, new_agent, new_conversation, of
from tests.whole.server import serving

MODEL = "anthropic/claude-haiku-4-5"
SAID = ("[[think:Hm.]] [[text:Grüß dich.]]", '[[call:demo_count:{"text": "a b"}]]', "[[words:9]]")
pytestmark = pytest.mark.slow


async def talked(client: httpx2.AsyncClient) -> tuple[str, list[Fact]]:
    """Have a conversation; give its id and the facts that its steps began with."""
    agent = await new_agent(client, MODEL, tools=["demo_count"])
    conversation_id = await new_conversation(client, agent)
    for said in SAID:
        body = {"input": said, "streaming": False}
        path = f"/v1/conversations/{conversation_id}/messages"
        assert (await client.post(path, json=body)).status_code == 200
    return conversation_id, of(await facts_of(client, conversation_id), "step.started")


async def rebuilt(client: httpx2.AsyncClient, conversation_id: str, steps: list[Fact]) -> list[Any]:
    root = f"/v1/conversations/{conversation_id}/steps"
    paths = [f"{root}/{step['data']['step_id']}/request" for step in steps]
    return [(await client.get(path)).json() for path in paths]


async def test_two_processes_rebuild_what_the_vendor_received(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    async with Vendor() as vendor:
        with serving(
            database, ANTHROPIC_API_KEY="none", ANTHROPIC_BASE_URL=vendor.base_url
        ) as server:
            async with client_of(server) as client:
                conversation_id, steps = await talked(client)
                first = await rebuilt(client, conversation_id, steps)
        received = [one.raw.decode() for one in vendor.replied]
        with serving(database) as server:
            async with client_of(server) as client:
                second = await rebuilt(client, conversation_id, steps)
        assert len(vendor.replied) == len(received) == len(SAID) + 1
    for answers in (first, second):
        assert all(answer["matches"] for answer in answers)
        assert [answer["wire"]["body"] for answer in answers] == received
