"""Every key that a type of letta-client 1.12.1 has is in what is answered, null where it is unset."""

from typing import Any

import letta_client.types as sdk
import pytest
from letta_client import Letta
from letta_client.types.agents import Run


def keys_of(model: Any) -> set[str]:
    """Give the keys of a type as they are on the wire."""
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/agents/{agent}", sdk.AgentState),
        ("/v1/conversations/{conversation}", sdk.Conversation),
        ("/v1/runs/?conversation_id={conversation}", Run),
        ("/v1/steps/?agent_id={agent}", sdk.Step),
        ("/v1/agents/{agent}/core-memory/blocks", sdk.BlockResponse),
        ("/v1/agents/{agent}/archival-memory", sdk.Passage),
        ("/v1/archives/?agent_id={agent}", sdk.Archive),
        ("/v1/tools/", sdk.Tool),
        ("/v1/models/", sdk.Model),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_no_key_of_a_type_is_missing(client: Letta, path: str, model: Any) -> None:
    blocks: Any = [{"label": "human", "value": "Ada"}]
    agent = client.agents.create(model="demo/echo", memory_blocks=blocks).id
    conversation = client.conversations.create(agent_id=agent).id
    client.agents.passages.create(agent, text="It rained.")
    said: Any = [{"role": "user", "content": "Hello!"}]
    list(client.conversations.messages.create(conversation, messages=said))
    answer: Any = client.get(path.format(agent=agent, conversation=conversation), cast_to=object)
    found: list[Any] = [answer] if "id" in answer else answer
    assert found
    assert [keys_of(model) - one.keys() for one in found] == [set()] * len(found)
