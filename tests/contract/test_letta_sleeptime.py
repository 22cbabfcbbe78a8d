"""Sleep-time memory through the real client: asked for at creation, and seen in blocks and passages."""

import time
from typing import Any

import pytest
from letta_client import Letta

GUARD_S = 20.0


def consolidations(client: Letta, agent_id: str, status: str, count: int) -> list[dict[str, Any]]:
    """Wait until there are so many."""
    until = time.monotonic() + GUARD_S
    while time.monotonic() < until:
        path = f"/v1/agents/{agent_id}/consolidations?status={status}"
        found = client.get(path, cast_to=list[Any])
        if len(found) >= count:
            return found
        time.sleep(0.05)
    pytest.fail(f"no {count} consolidations became {status}")


def test_an_agent_that_asks_for_it_remembers_by_itself(client: Letta) -> None:
    agent = client.agents.create(
        model="demo/echo",
        enable_sleeptime=True,
        memory_blocks=[{"label": "human", "value": "Name: unknown"}],
        extra_body={"sleeptime_agent_frequency": 2},
    )
    group = client.agents.retrieve(agent.id, include=["agent.managed_group"]).managed_group
    assert group is not None
    assert (group.manager_type, group.sleeptime_agent_frequency) == ("sleeptime", 2)
    first = client.agents.messages.create(agent.id, input="My name is Ada.")
    second = client.agents.messages.create(agent.id, input="I live in Ulm.")
    (done,) = consolidations(client, agent.id, "applied", 1)
    block = client.agents.blocks.retrieve("human", agent_id=agent.id)
    kept = client.agents.passages.list(agent.id)
    run = client.runs.retrieve(done["run_id"])
    assert first.usage.run_ids is None
    assert second.usage.run_ids == [done["run_id"]] == [run.id]
    assert (run.status, run.agent_id) == ("completed", agent.id)
    assert block.value.splitlines() == [
        "Name: unknown",
        "- The user said: My name is Ada.",
        "- The user said: I live in Ulm.",
    ]
    assert ["user: I live in Ulm." in one.text for one in kept] == [True]
    assert client.conversations.list(agent_id=agent.id) == []


def test_it_can_be_turned_on_later_and_off_again(client: Letta) -> None:
    agent = client.agents.create(model="demo/echo")
    client.agents.update(
        agent.id, enable_sleeptime=True, extra_body={"sleeptime_settings": {"max_steps": 4}}
    )
    on = client.agents.update(agent.id, extra_body={"sleeptime_agent_frequency": 1})
    settings: dict[str, Any] = on.model_extra["sleeptime_settings"] if on.model_extra else {}
    client.agents.messages.create(agent.id, input="I like tea.")
    (done,) = consolidations(client, agent.id, "applied", 1)
    off = client.agents.update(agent.id, enable_sleeptime=False)
    reply = client.agents.messages.create(agent.id, input="And cats.")
    assert (settings["frequency"], settings["max_steps"]) == (1, 4)
    assert (done["trigger"], off.enable_sleeptime, reply.usage.run_ids) == ("turns", False, None)
