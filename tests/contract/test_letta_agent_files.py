"""Agents as files, through the real client."""

import json

import httpx2
import pytest
from letta_client import Letta, NotFoundError, UnprocessableEntityError

from tests.agent_files import agent, as_bytes, file, ids, message, prompt


def test_an_agent_is_exported_and_imported_with_what_was_said(client: Letta, agent_id: str) -> None:
    client.agents.messages.create(agent_id, input="Remember the blue folder.")
    exported = client.agents.export_file(agent_id)
    assert json.loads(exported)["agents"][0]["name"] == "guide"
    answer = client.agents.import_file(
        file=("guide.af", exported.encode()), append_copy_suffix=True, strip_messages=False
    )
    (copy_id,) = answer.agent_ids
    assert client.agents.retrieve(copy_id).name == "guide_copy"
    listed = client.conversations.messages.list("default", agent_id=copy_id, order="asc")
    said = [one for one in listed.items if one.message_type == "user_message"]
    assert [one.content for one in said] == ["Remember the blue folder."]
    reply = client.agents.messages.create(copy_id, input="And now?")
    assert reply.stop_reason.stop_reason == "end_turn"


def test_an_agent_of_elsewhere_is_imported_with_another_model(client: Letta) -> None:
    said = [prompt(), message(1, "user", "Long ago."), message(2, "user", "Just now.")]
    given = agent(said, in_context_message_ids=ids(0, 2), model="elsewhere/m-1", name="desk")
    given |= {"enable_sleeptime": True, "everlog": {"sleeptime": {"frequency": 3}}}
    content = as_bytes(file(given))
    with pytest.raises(NotFoundError, match="send model="):
        client.agents.import_file(file=content)
    answer = client.agents.import_file(file=content, model="demo/echo", name="Ada")
    (agent_id,) = answer.agent_ids
    found = client.agents.retrieve(agent_id, include=["agent.blocks", "agent.managed_group"])
    assert (found.name, found.model) == ("Ada", "demo/echo")
    assert found.managed_group is not None
    assert (found.enable_sleeptime, found.managed_group.sleeptime_agent_frequency) == (True, 3)
    assert [block.value for block in found.blocks] == ["Keeps bees."]


def test_what_is_no_file_of_agents_is_told_so(client: Letta, raw: httpx2.Client) -> None:
    with pytest.raises(UnprocessableEntityError, match="agents: field required"):
        client.agents.import_file(file=b"{}")
    unknown = "agent-99999999-9999-4999-8999-999999999999"
    with pytest.raises(NotFoundError):
        client.agents.export_file(unknown)
    assert raw.get("/v1/agents/agent-1/export").status_code == 422
