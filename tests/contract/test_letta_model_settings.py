"""letta-client 1.12.1, unchanged: the settings of an agent's model, and of a conversation's."""

from typing import Any

import letta_client
import pytest
from letta_client import Letta
from letta_client.types import AnthropicModelSettings, GoogleAIModelSettings, OpenAIModelSettings


def refused(call: Any) -> str:
    with pytest.raises(letta_client.UnprocessableEntityError) as error:
        call()
    body: Any = error.value.body
    return body["detail"]


def test_an_agent_s_settings_are_read_back_as_what_they_are(client: Letta) -> None:
    made = client.agents.create(
        model="demo/echo", model_settings={"provider_type": "openai", "temperature": 0.3}
    )
    kept = client.agents.retrieve(made.id).api_model_settings
    assert isinstance(kept, OpenAIModelSettings)
    assert (kept.temperature, kept.strict, kept.parallel_tool_calls) == (0.3, True, True)
    assert kept.reasoning is not None
    assert (kept.reasoning.reasoning_effort, kept.max_output_tokens) == ("high", None)
    settings = made.llm_config
    assert (settings.temperature, settings.reasoning_effort) == (0.3, "high")


def test_an_update_of_an_agent_brings_settings_of_another_vendor(client: Letta) -> None:
    made = client.agents.create(
        model="demo/echo", model_settings={"provider_type": "openai", "max_output_tokens": 9}
    )
    client.agents.update(
        made.id,
        model_settings={
            "provider_type": "anthropic",
            "thinking": {"type": "enabled", "budget_tokens": 3000},
            "effort": "xhigh",
        },
    )
    found = client.agents.retrieve(made.id)
    kept = found.api_model_settings
    assert isinstance(kept, AnthropicModelSettings)
    assert kept.thinking is not None
    assert (kept.thinking.budget_tokens, kept.effort, kept.temperature) == (3000, "xhigh", 1.0)
    assert kept.max_output_tokens is None
    assert (found.llm_config.max_reasoning_tokens, found.llm_config.max_tokens) == (3000, None)
    unchanged = client.agents.update(made.id, model_settings=None)
    assert unchanged.api_model_settings == kept


def test_a_conversation_s_settings_are_its_own(client: Letta, agent_id: str) -> None:
    begun = client.conversations.create(
        agent_id=agent_id, model_settings={"provider_type": "google_ai", "max_output_tokens": 99}
    )
    kept = client.conversations.retrieve(begun.id).api_model_settings
    assert isinstance(kept, GoogleAIModelSettings)
    assert kept.thinking_config is not None
    assert (kept.thinking_config.thinking_budget, kept.max_output_tokens) == (1024, 99)
    client.conversations.update(begun.id, model_settings={"provider_type": "groq"})
    later: Any = client.conversations.retrieve(begun.id).api_model_settings
    assert (later.provider_type, later.temperature) == ("groq", 0.7)
    assert client.agents.retrieve(agent_id).api_model_settings is None


def test_settings_that_cannot_be_are_refused_by_their_field(client: Letta, agent_id: str) -> None:
    conversation = client.conversations.create(agent_id=agent_id)
    hot: Any = {"provider_type": "openai", "temperature": "hot"}
    huge: Any = {"provider_type": "openai", "reasoning": {"reasoning_effort": "huge"}}
    small: Any = {"provider_type": "anthropic", "thinking": {"budget_tokens": 10}}
    for settings, words in (
        (hot, "'model_settings', 'temperature'"),
        (huge, "'model_settings', 'reasoning', 'reasoning_effort'"),
        (small, "at least 1024"),
    ):
        create: Any = client.agents.create
        assert words in refused(lambda c=create, s=settings: c(model="demo/echo", model_settings=s))
        update: Any = client.agents.update
        assert words in refused(lambda c=update, s=settings: c(agent_id, model_settings=s))
        begin: Any = client.conversations.create
        assert words in refused(lambda c=begin, s=settings: c(agent_id=agent_id, model_settings=s))
        alter: Any = client.conversations.update
        assert words in refused(lambda c=alter, s=settings: c(conversation.id, model_settings=s))
    assert client.agents.retrieve(agent_id).api_model_settings is None
    assert client.conversations.retrieve(conversation.id).api_model_settings is None
