"""letta-client 1.12.1, unchanged: a list of messages, walked page by page, ends and has each once."""

from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

import pytest
from letta_client import Letta

from tests.contract.test_letta_compaction import listed
from tests.contract.test_letta_needed import COUNT, called, counting

Past: TypeAlias = Literal["unbegun", "begun", "compacted", "reset", "forked"]
Order: TypeAlias = Literal["asc", "desc"]
# More than any of these lists has: a walk that does not end is cut off.
ENOUGH = 100


def ways(client: Letta, agent_id: str) -> list[Any]:
    """Give each way to list an agent's own messages."""
    found: Any = client.conversations.messages.list
    own: Any = client.agents.messages.list
    return [
        partial(found, "default", agent_id=agent_id),
        partial(found, agent_id),
        partial(own, agent_id, conversation_id="default"),
        partial(own, agent_id),
    ]


def lived(client: Letta, past: Past) -> tuple[str, list[Any]]:
    """Make an agent to whom things have happened; give it, and ways to list its messages."""
    agent_id = counting(client)
    found = ways(client, agent_id)
    if past == "unbegun":
        return agent_id, found
    for words in ("One, think.", COUNT, "Three.", "Four."):
        called(client, agent_id, words)
    if past == "compacted":
        client.conversations.messages.compact(agent_id)
        called(client, agent_id, "Five.")
    if past == "reset":
        client.agents.messages.reset(agent_id, add_default_initial_messages=False)
        called(client, agent_id, "Five.")
    if past != "forked":
        return agent_id, found
    fork = client.conversations.fork(agent_id).id
    called(client, agent_id, "Five.")
    list(client.conversations.messages.create(fork, input="Six."))
    of_fork: Any = client.conversations.messages.list
    return agent_id, [*found, partial(of_fork, fork)]


def walked(page: Any) -> list[tuple[str, str]]:
    """Walk through all pages."""
    return [(one.id, one.message_type) for one in islice(page, ENOUGH)]


@pytest.mark.parametrize("past", get_args(Past))
def test_every_list_of_an_agent_s_messages_is_walked_to_its_end(client: Letta, past: Past) -> None:
    agent_id, lists = lived(client, past)
    for found in lists:
        whole = walked(found(order="asc", limit=ENOUGH))
        assert len(whole) == len(set(whole)) < ENOUGH
        assert whole[0][1] == "system_message"
        assert walked(found(limit=ENOUGH)) == whole[::-1]
        for limit in (1, 2, 3):
            assert walked(found(order="asc", limit=limit)) == whole
            assert walked(found(order="desc", limit=limit)) == whole[::-1]
        last = whole[-1][0]
        backwards = walked(found(order="asc", before=last, limit=2))
        assert sorted(backwards) == sorted(one for one in whole if one[0] != last)
        assert walked(found(order="asc", after=last)) == []
        assert walked(found(order="asc", before=whole[0][0])) == []
        assert walked(found(limit=0)) == []
    assert listed(client, agent_id)


@pytest.mark.parametrize("order", get_args(Order))
def test_messages_of_all_conversations_are_walked_as_one_list(client: Letta, order: Order) -> None:
    agent_id = counting(client)
    one, other = (client.conversations.create(agent_id=agent_id).id for _ in range(2))
    own: Any = client.agents.messages.list
    for number, where in enumerate((one, agent_id, other, one, agent_id)):
        list(client.conversations.messages.create(where, input=f"{number}"))
    whole = walked(own(agent_id, order=order, limit=ENOUGH))
    assert len(whole) == len(set(whole)) == 3 + 5 * 2
    for limit in (1, 2, 5):
        assert walked(own(agent_id, order=order, limit=limit)) == whole


@pytest.mark.parametrize("order", get_args(Order))
def test_what_an_agent_with_conversations_shows_of_its_own_ends_too(
    client: Letta, order: Order
) -> None:
    agent_id = counting(client)
    where = client.conversations.create(agent_id=agent_id).id
    list(client.conversations.messages.create(where, input="Hello."))
    for found in ways(client, agent_id):
        whole = walked(found(order=order, limit=ENOUGH))
        assert len(whole) == len(set(whole)) < ENOUGH
        assert walked(found(order=order, limit=1)) == whole
