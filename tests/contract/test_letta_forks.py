"""letta-client 1.12.1, unchanged: forks of conversations."""

from typing import Any

import letta_client
import pytest
from letta_client import Letta

from tests.contract.test_letta_compaction import UNKNOWN, listed, talk


def test_a_fork_shares_the_messages_in_context_and_has_a_system_message_of_its_own(
    client: Letta, conversation_id: str
) -> None:
    talk(client, conversation_id, "One.", "Two.")
    made = client.conversations.fork(conversation_id)
    theirs = client.conversations.retrieve(conversation_id)
    assert made.id != conversation_id
    assert (made.agent_id, made.summary) == (theirs.agent_id, None)
    assert made.in_context_message_ids is not None
    assert theirs.in_context_message_ids is not None
    assert made.in_context_message_ids[1:] == theirs.in_context_message_ids[1:]
    assert made.in_context_message_ids[0] != theirs.in_context_message_ids[0]
    talk(client, made.id, "Three.")
    assert len(listed(client, made.id)) == 7
    assert len(listed(client, conversation_id)) == 5
    assert made.id in [one.id for one in client.conversations.list(agent_id=made.agent_id)]


def test_a_fork_after_a_message_or_an_offset_ends_there(
    client: Letta, conversation_id: str
) -> None:
    talk(client, conversation_id, "One.", "Two.")
    known = client.conversations.retrieve(conversation_id).in_context_message_ids or []
    after = client.conversations.fork(conversation_id, message_id=known[2], hidden=True)
    assert (after.in_context_message_ids or [])[1:] == known[1:3]
    assert after.id not in [one.id for one in client.conversations.list(agent_id=after.agent_id)]
    first = client.conversations.fork(conversation_id, extra_query={"at": 3})
    assert (first.in_context_message_ids or [])[1:] == known[1:2]


def test_an_agents_own_conversation_is_forked(client: Letta, agent_id: str) -> None:
    messages: Any = [{"role": "user", "content": "Hello!"}]
    client.agents.messages.create(agent_id, messages=messages)
    made = client.conversations.fork("default", agent_id=agent_id)
    assert len(made.in_context_message_ids or []) == 3
    assert made.id.startswith("conv-")


def test_what_is_not_there_cannot_be_forked(client: Letta, conversation_id: str) -> None:
    with pytest.raises(letta_client.NotFoundError):
        client.conversations.fork(f"conv-{UNKNOWN}")
    with pytest.raises(letta_client.NotFoundError):
        client.conversations.fork(conversation_id, message_id=f"message-{UNKNOWN}")
    with pytest.raises(letta_client.NotFoundError):
        client.conversations.fork("default")
    with pytest.raises(letta_client.ConflictError):
        client.conversations.fork(conversation_id, extra_query={"at": 1000})


def test_what_a_fork_inherited_outlives_its_parent_everywhere(
    client: Letta, conversation_id: str
) -> None:
    talk(client, conversation_id, "One lighthouse.")
    made = client.conversations.fork(conversation_id)
    inherited = (made.in_context_message_ids or [])[1:]
    agent_id = made.agent_id
    assert len(inherited) == 2
    client.conversations.delete(conversation_id)
    for message_id in inherited:
        assert {one.id for one in client.messages.retrieve(message_id)} == {message_id}
    assert set(inherited) <= {one.id for one in client.messages.list(limit=10)}
    mine = [one.id for one in client.agents.messages.list(agent_id, order="asc")]
    assert mine[:2] == inherited
    assert len(mine) == len(set(mine)) == 3
    (hit,) = _asked(client, agent_id)
    found: Any = hit
    assert (found.message_id, found.conversation_id) == (inherited[0], made.id)
    client.conversations.delete(made.id)
    with pytest.raises(letta_client.NotFoundError):
        client.messages.retrieve(inherited[0])
    assert _asked(client, agent_id) == []


def _asked(client: Letta, agent_id: str) -> list[Any]:
    hits = client.messages.search(query='"lighthouse"', extra_body={"agent_id": agent_id})
    return [one for one in hits if one.message_type == "user_message"]


def test_a_fork_of_a_conversation_with_blocks_to_itself_has_copies_of_them(
    client: Letta,
) -> None:
    blocks: Any = [{"label": "human", "value": "Ada"}]
    agent = client.agents.create(name="guide", model="demo/echo", memory_blocks=blocks)
    begun: Any = client.conversations.create(
        agent_id=agent.id, extra_body={"isolated_block_labels": ["human"]}
    )
    (copy,) = begun.isolated_block_ids
    client.blocks.update(copy, value="Grace")
    made: Any = client.conversations.fork(begun.id)
    (other,) = made.isolated_block_ids
    assert other not in {copy, agent.blocks[0].id}
    assert client.blocks.retrieve(other).value == "Grace"
    client.conversations.delete(made.id)
    with pytest.raises(letta_client.NotFoundError):
        client.blocks.retrieve(other)
    assert client.blocks.retrieve(copy).value == "Grace"
