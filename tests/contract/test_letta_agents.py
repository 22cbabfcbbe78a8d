"""Agents and conversations as the real client sees them: prompts, own blocks, models, messages."""

from typing import Any

import pytest
from letta_client import BadRequestError, ConflictError, Letta, NotFoundError

MEMORY: Any = [{"label": "human", "value": "Ada"}, {"label": "plan", "value": "Rest."}]


def make(client: Letta, **more: Any) -> Any:
    return client.agents.create(name="guide", model="demo/echo", **more)


def hello(client: Letta, agent_id: str, words: str = "Hello!", **more: Any) -> Any:
    create: Any = client.agents.messages.create  # one of three forms, told apart by `streaming`
    return create(agent_id, input=words, **more)


def tell(client: Letta, conversation_id: str, words: str, **more: Any) -> None:
    assert list(client.conversations.messages.create(conversation_id, input=words, **more))


def prompt_of(client: Letta, conversation_id: str) -> Any:
    listed: list[Any] = client.conversations.messages.list(conversation_id, order="asc").items
    assert listed[0].message_type == "system_message"
    return listed[0]


def test_a_prompt_is_recompiled_wherever_it_is(client: Letta) -> None:
    agent = make(client, memory_blocks=MEMORY)
    conversation = client.conversations.create(agent_id=agent.id)
    client.agents.blocks.update("human", agent_id=agent.id, value="Grace")
    dry = client.conversations.recompile(conversation.id, dry_run=True)
    assert "Grace" in dry
    before = prompt_of(client, conversation.id)
    assert "Grace" not in before.content
    assert "Grace" in client.conversations.recompile(conversation.id)
    after = prompt_of(client, conversation.id)
    assert after.id == before.id
    assert "Grace" in after.content
    hello(client, agent.id)
    client.agents.blocks.update("human", agent_id=agent.id, value="Edith")
    assert "Edith" in client.agents.recompile(agent.id, dry_run=True)
    assert "Edith" in client.conversations.recompile("default", agent_id=agent.id)
    assert "Edith" in client.agents.recompile(agent.id, update_timestamp=True)
    with pytest.raises(NotFoundError):
        client.conversations.recompile("default")


def test_a_conversation_may_have_blocks_to_itself(client: Letta) -> None:
    agent = make(client, memory_blocks=MEMORY)
    made: Any = client.conversations.create(
        agent_id=agent.id, extra_body={"isolated_block_labels": ["plan"]}
    )
    (copy,) = made.isolated_block_ids
    client.blocks.update(copy, value="Run.")
    assert "Run." in client.conversations.recompile(made.id)
    assert client.agents.blocks.retrieve("plan", agent_id=agent.id).value == "Rest."
    client.conversations.delete(made.id)
    with pytest.raises(NotFoundError):
        client.blocks.retrieve(copy)
    with pytest.raises(BadRequestError, match="human, plan"):
        client.conversations.create(
            agent_id=agent.id, extra_body={"isolated_block_labels": ["none"]}
        )


def test_messages_of_all_conversations_of_an_agent_are_walked(client: Letta) -> None:
    agent = make(client)
    conversation = client.conversations.create(agent_id=agent.id)
    hello(client, agent.id, "One.")
    tell(client, conversation.id, "Two.")
    hello(client, agent.id, "Three.")
    whole = client.agents.messages.list(agent.id, order="asc", limit=2)
    words = [one.content for one in whole if one.message_type == "user_message"]
    assert words == ["One.", "Two.", "Three."]
    down = [one.id for one in client.agents.messages.list(agent.id, limit=3)]
    assert len(down) == len({*down}) == 8
    own = client.agents.messages.list(agent.id, conversation_id="default").items
    assert len(own) == 5
    one = client.agents.messages.list(agent.id, conversation_id=conversation.id).items
    assert {each.id for each in own} | {each.id for each in one} == {*down}


def test_a_reset_leaves_the_prompt_alone(client: Letta) -> None:
    agent = make(client)
    assert len(agent.message_ids) == 1
    hello(client, agent.id)
    assert len(client.agents.retrieve(agent.id).message_ids or ()) == 3
    state = client.agents.messages.reset(agent.id, add_default_initial_messages=True)
    assert state is not None
    assert state.message_ids == agent.message_ids
    assert [one.id for one in client.agents.messages.list(agent.id)] == agent.message_ids
    client.agents.messages.reset(agent.id)
    with pytest.raises(BadRequestError):
        client.agents.messages.compact(agent.id)
    with pytest.raises(ConflictError):
        client.agents.messages.cancel(agent.id)


def test_what_waits_for_approval_is_shown_with_its_agent(client: Letta) -> None:
    agent = make(client, initial_message_sequence=[{"role": "user", "content": "Hi."}])
    asked = hello(client, agent.id, "call look {}", client_tools=[{"name": "look"}])
    shown = client.agents.retrieve(agent.id, include=["agent.pending_approval"])
    assert shown.pending_approval is not None
    assert shown.pending_approval.id == asked.messages[-1].id
    assert shown.last_stop_reason == "requires_approval"
    assert client.agents.retrieve(agent.id).pending_approval is None
    newest = client.agents.list(order_by="last_run_completion", limit=1).items
    assert [one.id for one in newest] == [agent.id]


def test_what_is_said_for_one_request_overrides_what_is_stored(client: Letta) -> None:
    agent = make(client, system="Be kind.")
    made = client.conversations.create(
        agent_id=agent.id, model="demo/steady", description="A talk", context_window_limit=5000
    )
    assert (made.model, made.description, made.context_window_limit) == (
        "demo/steady",
        "A talk",
        5000,
    )
    skills: Any = [{"name": "knit", "description": "How to knit.", "location": "/knit"}]
    tell(
        client,
        made.id,
        "Hello!",
        override_model="demo/echo",
        override_system="Be brief.",
        client_skills=skills,
    )
    tell(client, made.id, "Hello again!")
    first, second = [
        client.runs.steps.list(run.id).items[0]
        for run in reversed([*client.runs.list(conversation_id=made.id)])
    ]
    assert (first.api_model_handle, second.api_model_handle) == ("demo/echo", "demo/steady")
    assert (second.context_window_limit, (first.context_window_limit or 0) > 5000) == (5000, True)
    path = f"/v1/conversations/{made.id}/steps"
    requests: list[Any] = [
        client.get(f"{path}/{one.id}/request", cast_to=object) for one in (first, second)
    ]
    systems = [one["request"]["system"] for one in requests]
    assert systems[0].startswith("Be brief.")
    assert "knit" in systems[0]
    assert systems[1].startswith("Be kind.")
    assert "knit" not in systems[1]
    assert prompt_of(client, made.id).content.startswith("Be kind.")


def test_conversations_are_ordered_by_what_happened_in_them(client: Letta) -> None:
    agent = make(client)
    one, two, three = [client.conversations.create(agent_id=agent.id).id for _ in range(3)]
    for conversation_id in (two, one):
        tell(client, conversation_id, "Hello!")
    client.conversations.update(two, archived=True)
    for order_by in ("last_message_at", "last_run_completion"):
        listed = client.conversations.list(
            agent_id=agent.id, order_by=order_by, archive_status="all"
        )
        assert [each.id for each in listed] == [one, two, three]
    newest = client.conversations.list(agent_id=agent.id, order_by="created_at")
    assert [each.id for each in newest] == [three, one]
    assert newest[0].last_message_at is None
    assert client.conversations.retrieve(two).archived_at is not None
