"""letta-client 1.12.1, unchanged: messages, steps, models and tags wherever they are; what is absent."""

from typing import Any
from uuid import uuid4

import letta_client
import pytest
from letta_client import Letta
from letta_client.types import Model
from letta_client.types import Step as StepType


def said(client: Letta, conversation_id: str, words: str) -> None:
    body = {"input": words, "streaming": False}
    client.post(f"/v1/conversations/{conversation_id}/messages", cast_to=object, body=body)


def test_a_message_is_read_by_its_id(client: Letta, conversation_id: str) -> None:
    said(client, conversation_id, "Hello!")
    items: list[Any] = client.conversations.messages.list(conversation_id, order="asc").items
    for one in items:
        (found,) = client.messages.retrieve(one.id)
        assert found == one
    with pytest.raises(letta_client.NotFoundError):
        client.messages.retrieve(f"message-{uuid4()}")


def test_messages_are_listed_over_all_conversations(client: Letta, agent_id: str) -> None:
    word = f"word{uuid4().hex}"
    for number in range(2):
        said(client, client.conversations.create(agent_id=agent_id).id, f"{word} {number}")
    newest: list[Any] = client.messages.list(limit=6)
    asked = [one.content for one in newest if one.message_type == "user_message"]
    assert asked == [f"{word} 1", f"{word} 0"]
    older = client.messages.list(limit=3, after=newest[2].id)
    assert [one.id for one in older] == [one.id for one in newest[3:]]


def test_messages_are_searched_over_all_conversations(client: Letta, agent_id: str) -> None:
    word = f"word{uuid4().hex}"
    conversation_id = client.conversations.create(agent_id=agent_id).id
    said(client, conversation_id, f"The {word} is on the shelf.")
    places: list[dict[str, Any]] = [
        {},
        {"agent_id": agent_id},
        {"conversation_id": conversation_id},
    ]
    for more in places:
        found: list[Any] = client.messages.search(query=word, **more)
        asked = next(one for one in found if one.message_type == "user_message")
        assert asked.content == f"The {word} is on the shelf."
        assert (asked.agent_id, asked.conversation_id) == (agent_id, conversation_id)
        item: Any = client.messages.retrieve(asked.message_id)[0]
        assert item.content == asked.content
    assert client.messages.search(query=word, end_date="2020-01-01") == []


def test_steps_are_listed_read_and_shown_with_their_messages(
    client: Letta, agent_id: str, conversation_id: str
) -> None:
    for number in range(3):
        said(client, conversation_id, f"Number {number}.")
    steps = list(client.steps.list(agent_id=agent_id, limit=2, order="asc"))
    assert len({one.id for one in steps}) == len(steps) == 3
    for one in steps:
        StepType.model_validate(one.model_dump(by_alias=True))
        assert client.steps.retrieve(one.id) == one
        assert (one.agent_id, one.status, one.stop_reason) == (agent_id, "success", "end_turn")
        (spoken,) = client.steps.messages.list(one.id).items
        assert spoken.message_type == "assistant_message"
        assert client.runs.steps.list(str(one.run_id)).items == [one]
        metrics = client.steps.metrics.retrieve(one.id)
        assert (metrics.id, metrics.run_id, metrics.agent_id) == (one.id, one.run_id, agent_id)
        assert metrics.step_ns == metrics.llm_request_ns
        run = client.runs.retrieve(str(one.run_id))
        assert 0 < (metrics.llm_request_ns or 0) <= (run.total_duration_ns or 0)
        assert (metrics.llm_request_start_ns, metrics.tool_execution_ns) == (
            metrics.step_start_ns,
            None,
        )


def test_a_listed_model_has_all_that_the_client_needs(client: Letta) -> None:
    for one in client.models.list():
        assert one.handle == f"{one.provider_name}/{one.name}"
        assert (one.max_context_window, one.model) == (one.context_window, one.name)
        # The client knows its own vendors only.
        known = {"provider_type": "openai", "model_endpoint_type": "openai"}
        Model.model_validate({**one.model_dump(by_alias=True), **known})
    assert client.models.list(provider_name="nobody") == []
    assert client.models.embeddings.list() == []


def test_tags_are_listed(client: Letta) -> None:
    tag = f"tag{uuid4().hex}"
    client.agents.create(model="demo/echo", tags=[tag])
    assert client.tags.list(name=tag) == [tag]


def test_what_is_absent_says_so_once(base_url: str, agent_id: str) -> None:
    # With the library's own retries on: what is not there is not to be asked for three times.
    with Letta(base_url=base_url, api_key="none") as client:
        for call in (
            client.folders.list,
            client.environments.list,
            lambda: client.agents.schedule.list(agent_id),
            lambda: client.steps.feedback.create(f"step-{uuid4()}", feedback="positive"),
        ):
            with pytest.raises(letta_client.InternalServerError) as refused:
                call()
            assert refused.value.status_code == 501
            assert "instead" in refused.value.message
            assert refused.value.response.request.headers["x-stainless-retry-count"] == "0"
