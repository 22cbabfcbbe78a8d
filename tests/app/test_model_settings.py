from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from letta_client.types import (
    agent_create_params,
    agent_update_params,
    conversation_create_params,
    conversation_update_params,
)
from letta_client.types.llm_config import LlmConfig
from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from app.model_settings import (
    DEFAULTS,
    DEMO,
    PROVIDER_TYPES,
    ModelSettings,
    as_llm_config,
    asked,
    checked,
)
from app.model_settings.union import shapes

# The table of the contract (section 9), but for `max_output_tokens`, which is kept only if given.
USUAL: Final[dict[str, Any]] = {"parallel_tool_calls": True, "temperature": 0.7}
OPENAI: Final[dict[str, Any]] = {
    **USUAL,
    "reasoning": {"reasoning_effort": "high"},
    "strict": True,
}
ANTHROPIC: Final[dict[str, Any]] = {
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "strict": False,
}
GOOGLE: Final[dict[str, Any]] = {
    **USUAL,
    "thinking_config": {"include_thoughts": True, "thinking_budget": 1024},
}
TABLE: Final[dict[str, dict[str, Any]]] = {
    "openai": OPENAI,
    "sglang": OPENAI,
    "anthropic": ANTHROPIC,
    "moonshot_coding": ANTHROPIC,
    "google_ai": GOOGLE,
    "google_vertex": GOOGLE,
    "azure": USUAL,
    "xai": USUAL,
    "groq": USUAL,
    "deepseek": USUAL,
    "together": USUAL,
    "bedrock": USUAL,
    "openrouter": USUAL,
    "baseten": USUAL,
    "zai": {**USUAL, "thinking": {"type": "enabled", "clear_thinking": False}},
    "moonshot": {"parallel_tool_calls": True},
    "chatgpt_oauth": {**USUAL, "reasoning": {"reasoning_effort": "medium"}},
    "demo": {"parallel_tool_calls": True},
}
ANY: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(ModelSettings)
# By these a shape is told from others; the SDK's types leave even them optional.
TOLD_BY: Final = {"provider_type", "type", "json_schema"}


def problem_of(settings: Any) -> tuple[str, str]:
    """Give where the one thing that is wrong with settings is, and what is said of it."""
    with pytest.raises(ValidationError) as refused:
        ANY.validate_python(settings)
    (problem,) = refused.value.errors()
    return ".".join(str(one) for one in problem["loc"]), problem["msg"]


# --- what the SDK's types can say -------------------------------------------------------------


def sdk_shapes(where: Any) -> dict[str, Any]:
    """Give the SDK's types of settings in a call by their `provider_type`."""
    members = get_args(where.ModelSettings)
    return {get_args(get_type_hints(one)["provider_type"])[0]: one for one in members}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Draw what a type of the SDK's can hold, within the vendors' bounds."""
    if is_typeddict(kind):
        return settings_of(kind)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        float: st.floats(0, 1),
        int: st.integers(1024, 2**31 - 1),
        str: st.text(max_size=20),
        NoneType: st.none(),
    }
    if kind in plain:
        return plain[kind]
    origin = get_origin(kind)
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if origin in (Union, UnionType):
        return st.one_of(*map(values_of, get_args(kind)))
    assert issubclass(origin, Mapping), kind
    return st.dictionaries(st.text(max_size=5), st.none() | st.integers(), max_size=3)


def settings_of(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    fields = {name: values_of(one) for name, one in get_type_hints(kind).items()}
    told = {name: one for name, one in fields.items() if name in TOLD_BY}
    rest = {name: one for name, one in fields.items() if name not in TOLD_BY}
    return st.fixed_dictionaries(told, optional=rest)


SDK: Final = sdk_shapes(agent_create_params)
SAID: Final = st.sampled_from(sorted(SDK)).flatmap(lambda name: settings_of(SDK[name]))


@pytest.mark.parametrize(
    "where",
    [
        agent_create_params,
        agent_update_params,
        conversation_create_params,
        conversation_update_params,
    ],
)
def test_every_field_of_the_sdk_s_types_is_one_of_ours_and_no_other_is(where: Any) -> None:
    ours = {name: shape for name, shape in shapes().items() if name != DEMO}
    theirs = sdk_shapes(where)
    assert ours.keys() == theirs.keys() == set(PROVIDER_TYPES)
    for name, shape in ours.items():
        check_fields(shape, theirs[name])


def check_fields(shape: type[BaseModel], theirs: Any) -> None:
    hints = get_type_hints(theirs)
    assert shape.model_fields.keys() == hints.keys()
    for name, kind in hints.items():
        inner = shape.model_fields[name].annotation
        if is_typeddict(kind) and isinstance(inner, type) and issubclass(inner, BaseModel):
            check_fields(inner, kind)


@given(SAID)
def test_all_that_the_sdk_can_say_is_taken_and_kept(said: dict[str, Any]) -> None:
    kept = ANY.validate_python(said)
    for name, value in said.items():
        if isinstance(value, dict):
            assert kept[name].items() >= value.items()
        elif value is not None:
            assert kept[name] == value
    assert kept.keys() >= DEFAULTS[said["provider_type"]].keys()
    assert ("max_output_tokens" in kept) == ("max_output_tokens" in said)


@given(SAID)
def test_settings_that_are_complete_stay_as_they_are(said: dict[str, Any]) -> None:
    kept = checked(said)
    assert checked(kept) == kept
    assert checked(asked(kept) | {"provider_type": said["provider_type"]}) == kept


# --- defaults ---------------------------------------------------------------------------------


def test_the_table_has_every_vendor() -> None:
    assert TABLE.keys() == DEFAULTS.keys() == {*PROVIDER_TYPES, DEMO}
    assert len(PROVIDER_TYPES) == 17


@pytest.mark.parametrize("provider_type", TABLE)
def test_what_is_not_given_is_as_the_contract_has_it(provider_type: str) -> None:
    found = ANY.validate_python({"provider_type": provider_type})
    assert found == {"provider_type": provider_type, **TABLE[provider_type]}
    bounded = ANY.validate_python({"provider_type": provider_type, "max_output_tokens": 700})
    assert bounded == {**found, "max_output_tokens": 700}


@pytest.mark.parametrize(
    ("given_", "field", "kept"),
    [
        (
            {"provider_type": "openai", "reasoning": {}},
            "reasoning",
            {"reasoning_effort": "minimal"},
        ),
        ({"provider_type": "openai", "reasoning": None}, "reasoning", {"reasoning_effort": "high"}),
        (
            {"provider_type": "chatgpt_oauth", "reasoning": {"reasoning_effort": None}},
            "reasoning",
            {"reasoning_effort": "medium"},
        ),
        (
            {"provider_type": "anthropic", "thinking": {"type": "disabled"}},
            "thinking",
            {"type": "disabled", "budget_tokens": 1024},
        ),
        (
            {"provider_type": "google_ai", "thinking_config": {"thinking_budget": -1}},
            "thinking_config",
            {"include_thoughts": True, "thinking_budget": -1},
        ),
        ({"provider_type": "groq", "temperature": None}, "temperature", 0.7),
        ({"provider_type": "groq", "temperature": 0}, "temperature", 0),
        ({"provider_type": "anthropic", "effort": "xhigh"}, "effort", "xhigh"),
    ],
)
def test_what_is_given_is_kept_and_null_is_the_default(
    given_: dict[str, Any], field: str, kept: Any
) -> None:
    assert ANY.validate_python(given_)[field] == kept


def test_what_is_not_known_is_ignored() -> None:
    sent = {"provider_type": "baseten", "top_k": 3, "response_format": {"type": "text"}}
    assert ANY.validate_python(sent) == {"provider_type": "baseten", **USUAL}


def test_a_schema_is_kept_as_it_is() -> None:
    schema: dict[str, Any] = {"default": None, "x": [{}]}
    wanted = {"type": "json_schema", "json_schema": {"schema": schema}}
    sent = {"provider_type": "openai", "response_format": wanted}
    assert ANY.validate_python(sent)["response_format"] == wanted


# --- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        ({"provider_type": "openai", "temperature": "hot"}, "temperature", "number"),
        ({"provider_type": "openai", "temperature": "0.5"}, "temperature", "number"),
        ({"provider_type": "openai", "temperature": True}, "temperature", "number"),
        ({"provider_type": "openai", "temperature": 2.1}, "temperature", "equal to 2"),
        ({"provider_type": "anthropic", "temperature": 1.1}, "temperature", "equal to 1"),
        ({"provider_type": "groq", "temperature": -0.1}, "temperature", "equal to 0"),
        ({"provider_type": "groq", "temperature": float("nan")}, "temperature", "finite"),
        ({"provider_type": "groq", "max_output_tokens": 0}, "max_output_tokens", "equal to 1"),
        ({"provider_type": "groq", "max_output_tokens": 2**31}, "max_output_tokens", "2147483647"),
        ({"provider_type": "groq", "max_output_tokens": 1.5}, "max_output_tokens", "integer"),
        ({"provider_type": "demo", "parallel_tool_calls": "no"}, "parallel_tool_calls", "boolean"),
        (
            {"provider_type": "openai", "reasoning": {"reasoning_effort": "max"}},
            "reasoning.reasoning_effort",
            "'none', 'minimal', 'low', 'medium', 'high' or 'xhigh'",
        ),
        (
            {"provider_type": "chatgpt_oauth", "reasoning": {"reasoning_effort": "minimal"}},
            "reasoning.reasoning_effort",
            "'none', 'low', 'medium', 'high' or 'xhigh'",
        ),
        ({"provider_type": "openai", "reasoning": "high"}, "reasoning", "dictionary"),
        (
            {"provider_type": "anthropic", "thinking": {"budget_tokens": 1023}},
            "thinking.budget_tokens",
            "at least 1024 while thinking is enabled, not 1023",
        ),
        (
            {"provider_type": "anthropic", "thinking": {"type": "adaptive"}},
            "thinking.type",
            "'enabled' or 'disabled'",
        ),
        ({"provider_type": "anthropic", "effort": "minimal"}, "effort", "'xhigh' or 'max'"),
        (
            {"provider_type": "google_ai", "thinking_config": {"thinking_budget": -2}},
            "thinking_config.thinking_budget",
            "equal to -1",
        ),
        (
            {"provider_type": "groq", "response_format": {"type": "xml"}},
            "response_format",
            "'text'",
        ),
        ({"provider_type": "sglang", "tool_call_parser": "x" * 257}, "tool_call_parser", "256"),
        ({"provider_type": "acme"}, "", "provider_type must be one of openai, sglang, "),
        ({"provider_type": ["openai"]}, "", "provider_type must be one of openai, "),
        ({"temperature": 1}, "", "provider_type must be one of openai, "),
        ([], "", "dictionary"),
    ],
)
def test_what_no_vendor_takes_is_refused_by_its_field_with_what_is_allowed(
    settings: Any, where: str, words: str
) -> None:
    place, said = problem_of(settings)
    assert place == where
    assert words in said


def test_a_model_that_is_not_to_think_may_have_no_budget() -> None:
    thinking = {"type": "disabled", "budget_tokens": 0}
    found = ANY.validate_python({"provider_type": "anthropic", "thinking": thinking})
    assert found["thinking"] == thinking


# --- what was asked for -----------------------------------------------------------------------


@pytest.mark.parametrize("provider_type", TABLE)
def test_of_defaults_nothing_was_asked_for(provider_type: str) -> None:
    assert asked(DEFAULTS[provider_type]) == {}
    whole = {**DEFAULTS[provider_type], "max_output_tokens": 4096}
    assert asked(whole) == {"max_output_tokens": 4096}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"provider_type": ["x"], "a": 1}, {"provider_type": ["x"], "a": 1}),
        ({"provider_type": "anthropic", "thinking": {"type": "enabled"}}, {}),
        (
            {"provider_type": "anthropic", "thinking": {"type": "disabled"}},
            {"thinking": {"type": "disabled"}},
        ),
        ({"provider_type": "openai", "temperature": 1, "effort": None}, {"temperature": 1}),
    ],
)
def test_what_differs_from_the_defaults_was_asked_for(
    settings: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert asked(settings) == wanted


# --- older words ------------------------------------------------------------------------------


@given(SAID)
def test_an_older_client_reads_in_its_words_what_it_knows(said: dict[str, Any]) -> None:
    found = as_llm_config(checked(said))
    assert found.keys() <= LlmConfig.model_fields.keys()
    base = {"context_window": 1, "model": "m", "model_endpoint_type": "openai"}
    LlmConfig.model_validate({**base, **found})
    assert found["max_tokens"] == said.get("max_output_tokens")
    assert found["temperature"] == checked(said).get("temperature")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"provider_type": "openai"}, {"enable_reasoner": True, "reasoning_effort": "high"}),
        (
            {"provider_type": "openai", "reasoning": {"reasoning_effort": "none"}},
            {"enable_reasoner": False, "reasoning_effort": "none"},
        ),
        (
            {"provider_type": "anthropic", "thinking": {"budget_tokens": 3000}, "effort": "low"},
            {"enable_reasoner": True, "max_reasoning_tokens": 3000, "effort": "low"},
        ),
        (
            {"provider_type": "anthropic", "thinking": {"type": "disabled"}},
            {"enable_reasoner": False, "max_reasoning_tokens": None},
        ),
        (
            {"provider_type": "google_ai", "response_schema": {"type": "text"}},
            {"max_reasoning_tokens": 1024, "response_format": {"type": "text"}},
        ),
        ({"provider_type": "groq"}, {"parallel_tool_calls": True, "strict": None}),
    ],
)
def test_settings_are_said_in_the_words_of_an_older_client(
    settings: dict[str, Any], words: dict[str, Any]
) -> None:
    assert as_llm_config(checked(settings)).items() >= words.items()


def test_what_is_not_stored_and_what_is_not_a_vendor_s_an_older_client_does_not_read() -> None:
    found = as_llm_config({"provider_type": "groq", "temperature": 1, "effort": 3})
    assert (found["temperature"], found["parallel_tool_calls"], found["effort"]) == (1, None, None)


@pytest.mark.parametrize("stored", [None, {}, {"provider_type": "openai", "temperature": "hot"}])
def test_of_settings_that_do_not_fit_an_older_client_reads_nothing(stored: Any) -> None:
    assert as_llm_config(stored) == {}
