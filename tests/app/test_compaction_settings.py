from typing import Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.compaction.settings import (
    CompactionSettingsIn,
    complete,
    derived_model,
    initial,
    merged,
    summariser_of,
    updated,
)
from app.model_settings import DEFAULTS, PROVIDER_TYPES, without_thinking
from app.providers.catalogue import Catalogue, ProviderSettings, UnknownHandle
from domain.compaction import CompactionMode, CompactionSettings
from projections.prompts import PROMPTS

MODES: Final[tuple[CompactionMode, ...]] = get_args(CompactionMode)
HAIKU: Final = "anthropic/claude-haiku-4-5"
AGENT: Final = CompactionSettings(
    mode="all",
    model="demo/steady",
    model_settings={"provider_type": "openai"},
    prompt="mine",
    prompt_acknowledgement=True,
    clip_chars=9,
    sliding_window_percentage=0.5,
    min_retention=0.9,
)


def sent(**fields: Any) -> CompactionSettingsIn:
    return CompactionSettingsIn.model_validate(fields)


def catalogue(**settings: Any) -> Catalogue:
    return Catalogue(ProviderSettings(**settings))


# --- what a request may say -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("mode", "none", "sliding_window"),
        ("mode", 1, "sliding_window"),
        ("model", "echo", "provider/model"),
        ("model", "", "provider/model"),
        ("model", "demo/" + "x" * 252, "256"),
        ("model_settings", {}, "provider_type"),
        ("model_settings", {"provider_type": "acme"}, "provider_type"),
        ("prompt", "x" * 50_001, "50000"),
        ("prompt_acknowledgement", "maybe", "boolean"),
        ("clip_chars", -1, "greater than or equal to 0"),
        ("clip_chars", 2**31 + 1, "2147483648"),
        ("clip_chars", 0.5, "integer"),
        ("sliding_window_percentage", 0, "greater than 0"),
        ("sliding_window_percentage", 1.01, "less than or equal to 1"),
        ("sliding_window_percentage", "nan", "finite"),
        ("min_retention", "nan", "finite"),
        ("min_retention", -0.1, "greater than or equal to 0"),
        ("min_retention", 1.1, "less than or equal to 1"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_field_and_bound(
    field: str, value: Any, words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        sent(**{field: value})
    (problem,) = refused.value.errors()
    assert problem["loc"] == (field,)
    assert words in problem["msg"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("mode", mode) for mode in MODES),
        ("model", "nobody/knows/this"),
        ("model_settings", {**DEFAULTS["zai"], "temperature": 0.1}),
        ("prompt", "x" * 50_000),
        ("clip_chars", 0),
        ("sliding_window_percentage", 1),
        ("min_retention", 0),
        ("min_retention", 1),
    ],
)
def test_every_field_alone_is_enough(field: str, value: Any) -> None:
    assert sent(**{field: value}).sent == {field: value}


def test_what_is_not_known_is_ignored_and_null_is_sent() -> None:
    assert sent(unknown=1, prompt=None).sent == {"prompt": None}


# --- one compaction's -------------------------------------------------------------------------


def test_without_a_request_the_agents_settings_stand() -> None:
    assert merged(AGENT, None) == AGENT
    assert merged(AGENT, sent()) == AGENT


@pytest.mark.parametrize("mode", MODES)
def test_another_mode_brings_its_own_prompt(mode: CompactionMode) -> None:
    found = merged(AGENT, sent(mode=mode))
    assert found.prompt == ("mine" if mode == "all" else PROMPTS[mode])
    assert found == AGENT.model_copy(update={"mode": mode, "prompt": found.prompt})


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_was_sent_along_is_used(mode: CompactionMode) -> None:
    assert merged(AGENT, sent(mode=mode, prompt="yours")).prompt == "yours"
    assert merged(AGENT, sent(prompt="yours")).prompt == "yours"


@pytest.mark.parametrize("prompt", [None, "", " \n"])
def test_a_prompt_of_nothing_is_the_modes_own(prompt: str | None) -> None:
    assert merged(AGENT, sent(prompt=prompt)).prompt == PROMPTS["all"]
    assert (
        merged(AGENT, sent(prompt=prompt, mode="self_compact_all")).prompt
        == (PROMPTS["self_compact_all"])
    )


def test_null_is_the_default_and_for_clipping_it_is_none() -> None:
    fields = CompactionSettingsIn.model_fields
    assert merged(AGENT, sent(**dict.fromkeys(fields)), 0.4) == CompactionSettings(
        mode="sliding_window",
        model=None,
        model_settings=None,
        prompt=PROMPTS["sliding_window"],
        prompt_acknowledgement=False,
        clip_chars=None,
        sliding_window_percentage=0.4,
        min_retention=None,
    )


SENT = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.none() | st.sampled_from(MODES),
        "model": st.none() | st.sampled_from(["demo/echo", "a/b"]),
        "model_settings": st.none() | st.just(DEFAULTS["groq"]),
        "prompt": st.none() | st.text(max_size=3),
        "prompt_acknowledgement": st.none() | st.booleans(),
        "clip_chars": st.none() | st.integers(0, 9),
        "sliding_window_percentage": st.none() | st.floats(0.1, 1),
        "min_retention": st.none() | st.floats(0, 1),
    },
)


@given(SENT)
def test_only_what_was_sent_differs_from_the_agents(fields: dict[str, Any]) -> None:
    before = AGENT.model_copy(deep=True)
    found = merged(AGENT, sent(**fields))
    assert CompactionSettings.model_validate(found.model_dump()) == found
    assert before == AGENT
    for name, value in fields.items():
        if value is not None and name != "prompt":
            assert getattr(found, name) == value
    for name in CompactionSettings.model_fields.keys() - fields.keys() - {"prompt"}:
        assert getattr(found, name) == getattr(AGENT, name)


# --- an agent's -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "summariser"),
    [
        ("anthropic/claude-opus-5", HAIKU),
        ("openai/gpt-5", "openai/gpt-5-mini"),
        ("google_ai/gemini-2.5-pro", "google_ai/gemini-2.5-flash"),
        ("letta/letta-free", "letta/auto"),
        ("demo/echo", "demo/echo"),
        ("groq/a/b", "groq/a/b"),
    ],
)
def test_an_agent_begins_with_all_settings_and_its_providers_cheap_model(
    model: str, summariser: str
) -> None:
    assert derived_model(model) == summariser
    assert initial(model, None, 0.2) == CompactionSettings(
        model=summariser, prompt=PROMPTS["sliding_window"], sliding_window_percentage=0.2
    )
    assert initial(model, sent(model=None)).model == summariser
    assert initial(model, sent(model="demo/steady")).model == "demo/steady"


@given(SENT)
def test_an_agents_settings_are_complete_already(fields: dict[str, Any]) -> None:
    settings = initial("demo/echo", sent(**fields))
    assert settings.model is not None
    assert complete("demo/echo", settings.model_dump()) == settings


@pytest.mark.parametrize("stored", [None, {}, {"unknown": 1}, {"mode": "sliding_window"}])
def test_settings_of_an_older_agent_are_completed(stored: dict[str, Any] | None) -> None:
    assert complete("demo/echo", stored, 0.2) == initial("demo/echo", None, 0.2)


def test_what_an_older_agent_had_is_kept() -> None:
    found = complete("demo/echo", {"mode": "all", "clip_chars": None})
    assert (found.mode, found.prompt, found.clip_chars) == ("all", PROMPTS["all"], None)
    assert complete("demo/echo", {"prompt": "p"}).prompt == "p"


def test_settings_of_a_model_are_completed_when_they_come_and_not_when_they_are_read() -> None:
    given = {"provider_type": "zai", "temperature": 0.1}
    assert sent(model_settings=given).model_settings == {**DEFAULTS["zai"], "temperature": 0.1}
    older = {"model_settings": {**given, "top_k": 3}}
    assert complete("demo/echo", older).model_settings == {**given, "top_k": 3}
    assert complete("demo/echo", {"model_settings": {"temperature": 1}}).model_settings is None


def test_what_an_older_agent_had_and_cannot_be_used_is_the_default() -> None:
    stored = {
        "mode": ["x"],
        "clip_chars": -1,
        "sliding_window_percentage": 7,
        "prompt": "p",
        "model": {"name": "x"},
    }
    assert complete("demo/echo", stored) == initial("demo/echo", sent(prompt="p"))


@pytest.mark.parametrize(
    ("before", "after", "now", "then"),
    [
        ("demo/echo", "anthropic/claude-opus-5", "demo/echo", HAIKU),
        ("anthropic/claude-opus-5", "demo/steady", HAIKU, "demo/steady"),
        ("anthropic/claude-opus-5", "anthropic/claude-sonnet-5", HAIKU, HAIKU),
        ("demo/echo", "demo/steady", "demo/echo", "demo/steady"),
        ("demo/echo", "anthropic/claude-opus-5", "groq/mine", "groq/mine"),
        ("demo/echo", "demo/echo", "demo/echo", "demo/echo"),
    ],
)
def test_a_derived_summariser_follows_the_agents_model_and_a_chosen_one_does_not(
    before: str, after: str, now: str, then: str
) -> None:
    settings = AGENT.model_copy(update={"model": now})
    found = updated(settings, None, models=(before, after))
    assert found == settings.model_copy(update={"model": then})
    assert updated(settings, sent(model="a/b"), models=(before, after)).model == "a/b"
    assert updated(settings, sent(model=None), models=(before, after)).model == derived_model(after)


# --- who writes the summary -------------------------------------------------------------------

OWN: Final = {"provider_type": "anthropic", "thinking": {"type": "enabled"}, "temperature": 1}


def settings_with(**fields: Any) -> CompactionSettings:
    return CompactionSettings(prompt="p", **fields)


@pytest.mark.parametrize(
    ("named", "own", "chosen"),
    [
        ("demo/steady", "demo/echo", "demo/steady"),
        ("letta/auto", "demo/steady", "demo/echo"),
        ("anthropic/claude-opus-5", "demo/echo", "anthropic/claude-opus-5"),
        (None, "demo/steady", "demo/steady"),
        (None, "anthropic/claude-opus-5", HAIKU),
        ("nobody/knows", "demo/steady", "demo/steady"),
        ("nobody/knows", "anthropic/claude-opus-5", HAIKU),
        ("malformed", "anthropic/claude-opus-5", HAIKU),
    ],
)
def test_the_summariser_is_the_one_named_or_the_next_that_is_to_be_had(
    named: str | None, own: str, chosen: str
) -> None:
    models = catalogue(anthropic_api_key="key")
    assert summariser_of(models, settings_with(model=named), own, {}).resolved.handle == chosen


def test_a_default_that_is_not_to_be_had_leaves_the_conversations_own_model() -> None:
    found = summariser_of(catalogue(), settings_with(model=HAIKU), "demo/steady", OWN)
    assert found.resolved.handle == "demo/steady"
    with pytest.raises(UnknownHandle, match="claude-opus-5"):
        summariser_of(catalogue(), settings_with(), "anthropic/claude-opus-5", OWN)


@pytest.mark.parametrize("mode", ["self_compact_all", "self_compact_sliding_window"])
def test_in_the_self_modes_a_model_summarises_with_the_very_settings_it_runs_with(
    mode: CompactionMode,
) -> None:
    settings = settings_with(mode=mode, model="demo/steady", model_settings={"a": 1})
    found = summariser_of(catalogue(), settings, "demo/echo", OWN)
    assert (found.resolved.handle, found.settings) == ("demo/echo", OWN)


@pytest.mark.parametrize("mode", ["all", "sliding_window"])
def test_another_summariser_does_not_think_and_gets_only_what_was_given_for_it(
    mode: CompactionMode,
) -> None:
    models = catalogue(anthropic_api_key="key")
    given = {**OWN, "max_output_tokens": 700, "effort": "max"}
    kept = {"provider_type": "anthropic", "temperature": 1, "max_output_tokens": 700}
    quiet = {"thinking": {"type": "disabled"}}
    settings = settings_with(mode=mode, model=HAIKU, model_settings=given)
    assert summariser_of(models, settings, "demo/echo", {}).settings == {**kept, **quiet}
    unset = settings_with(mode=mode, model=HAIKU)
    assert summariser_of(models, unset, HAIKU, OWN).settings == quiet


def test_settings_for_a_model_that_is_not_to_be_had_go_with_it() -> None:
    given = {"provider_type": "openai", "reasoning": {"reasoning_effort": "high"}, "strict": True}
    settings = settings_with(model="openai/gpt-5", model_settings=given)
    models = catalogue(anthropic_api_key="key")
    found = summariser_of(models, settings, "anthropic/claude-opus-5", {})
    assert found.settings == {"thinking": {"type": "disabled"}}


@pytest.mark.parametrize("provider_type", PROVIDER_TYPES)
def test_each_vendor_is_told_in_its_own_words_and_loses_nothing_else(provider_type: str) -> None:
    thinking = {"thinking": 1, "reasoning": 2, "thinking_config": 3, "effort": "max"}
    found = without_thinking({"temperature": 0.5, **thinking}, provider_type, "model")
    assert found["temperature"] == 0.5
    assert all(found.get(name) != value for name, value in thinking.items())
    assert found == without_thinking({"temperature": 0.5}, provider_type, "model")


@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-fable-5", "claude-sonnet-5-5-x"])
def test_a_model_that_always_thinks_is_told_nothing(model: str) -> None:
    assert without_thinking(OWN, "anthropic", model) == {
        "provider_type": "anthropic",
        "temperature": 1,
    }
