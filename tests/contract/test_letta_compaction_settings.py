"""An agent's compaction settings as letta-client 1.12.1 sends and reads them."""

from typing import Any

import letta_client
import pytest
from letta_client import Letta
from letta_client.types.agent_state import CompactionSettings

from projections.prompts import PROMPTS


def settings_of(client: Letta, agent_id: str) -> CompactionSettings:
    found = client.agents.retrieve(agent_id).compaction_settings
    assert isinstance(found, CompactionSettings)
    return found


def test_an_agent_without_a_word_about_compaction_has_all_its_settings(
    client: Letta, agent_id: str
) -> None:
    found = settings_of(client, agent_id)
    assert (found.mode, found.model, found.clip_chars) == ("sliding_window", "demo/echo", 50_000)
    assert (found.prompt, found.prompt_acknowledgement) == (PROMPTS["sliding_window"], False)
    assert (found.sliding_window_percentage, found.api_model_settings) == (0.3, None)


def test_settings_are_kept_as_they_were_given(client: Letta) -> None:
    made = client.agents.create(
        name="guide",
        model="demo/echo",
        compaction_settings={
            "mode": "self_compact_sliding_window",
            "model": "openai/gpt-5-mini",
            "model_settings": {"provider_type": "openai", "max_output_tokens": 700},
            "prompt_acknowledgement": True,
            "clip_chars": None,
            "sliding_window_percentage": 0.5,
        },
    )
    found = settings_of(client, made.id)
    assert found == made.compaction_settings
    assert (found.mode, found.model) == ("self_compact_sliding_window", "openai/gpt-5-mini")
    assert found.prompt == PROMPTS["self_compact_sliding_window"]
    assert found.api_model_settings is not None
    assert found.api_model_settings.provider_type == "openai"
    assert found.api_model_settings.max_output_tokens == 700
    assert (found.prompt_acknowledgement, found.clip_chars) == (True, None)
    assert found.sliding_window_percentage == 0.5


def test_an_update_merges_and_another_mode_brings_its_prompt(client: Letta) -> None:
    first: Any = {"prompt": "mine", "clip_chars": 9}
    agent_id = client.agents.create(model="demo/echo", compaction_settings=first).id
    client.agents.update(agent_id, compaction_settings={"prompt_acknowledgement": True})
    kept = settings_of(client, agent_id)
    assert (kept.prompt, kept.clip_chars, kept.prompt_acknowledgement) == ("mine", 9, True)
    client.agents.update(agent_id, compaction_settings={"mode": "all"})
    changed = settings_of(client, agent_id)
    assert (changed.prompt, changed.clip_chars) == (PROMPTS["all"], 9)
    client.agents.update(agent_id, name="renamed", model="demo/steady")
    followed = settings_of(client, agent_id)
    assert (followed.model, followed.mode) == ("demo/steady", "all")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "none"}, "mode"),
        ({"model": "echo"}, "provider/model"),
        ({"clip_chars": -1}, "clip_chars"),
        ({"sliding_window_percentage": 0}, "sliding_window_percentage"),
    ],
)
def test_settings_that_cannot_be_are_unprocessable(
    client: Letta, agent_id: str, settings: Any, words: str
) -> None:
    with pytest.raises(letta_client.UnprocessableEntityError) as refused:
        client.agents.update(agent_id, compaction_settings=settings)
    body: Any = refused.value.body
    assert words in body["detail"]
    assert settings_of(client, agent_id).mode == "sliding_window"
