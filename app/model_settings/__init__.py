"""Settings of a vendor's model, in the spelling of the contract's union (section 9).

They are checked and completed once, when a request brings them, and kept as they are from then on:
what was stored before that was so is shown and used as it is. An update replaces all of them.

As they are complete, nobody sees in them what the caller has asked for. So whoever speaks to a vendor
goes by `asked`: what differs from the defaults is honoured, or refused by name; a default gives way
where it does not go with that, or where the model has no such thing.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeAlias, cast

from pydantic import PlainValidator
from pydantic_core import PydanticKnownError

from app.model_settings.thinking import without_thinking
from app.model_settings.union import AnyModelSettings, Settings, shapes

__all__ = [
    "DEFAULTS",
    "DEMO",
    "PROVIDER_TYPES",
    "ModelSettings",
    "as_llm_config",
    "asked",
    "checked",
    "without_thinking",
]

# Ours: clients write settings for the provider that the list of models names.
DEMO: Final = "demo"
# What `llm_config` calls by the same name.
_SAME: Final = (
    "temperature",
    "parallel_tool_calls",
    "effort",
    "verbosity",
    "strict",
    "tool_call_parser",
)
_SHAPES: Final[Mapping[str, type[Settings]]] = MappingProxyType(shapes())
# Which vendor a model's settings are written for.
PROVIDER_TYPES: Final = tuple(name for name in _SHAPES if name != DEMO)


def checked(given: Any) -> dict[str, Any]:
    """Check settings and fill in the defaults; null is one too. Raises ValueError.

    `max_output_tokens` stays away if it is not given: the vendor's default is its own.
    """
    if not isinstance(given, dict):
        raise PydanticKnownError("dict_type")
    settings = cast("dict[str, Any]", given)
    provider_type = settings.get("provider_type")
    shape = _SHAPES.get(provider_type) if isinstance(provider_type, str) else None
    if shape is None:
        raise ValueError(f"provider_type must be one of {', '.join(PROVIDER_TYPES)}")
    known = shape.model_validate(settings).model_dump(exclude_none=True)
    return {"provider_type": provider_type, **known}


ModelSettings: TypeAlias = Annotated[
    dict[str, Any], PlainValidator(checked, json_schema_input_type=AnyModelSettings)
]
DEFAULTS: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {name: checked({"provider_type": name}) for name in _SHAPES}
)


def asked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the settings that differ from the defaults of the vendor that they were written for."""
    # Whatever was stored in the days when nobody looked: also what no dictionary takes for a key.
    usual = DEFAULTS.get(str(settings.get("provider_type")), {})
    return {
        name: value
        for name, value in settings.items()
        if value is not None and not _says_as_much_as(usual.get(name), value)
    }


def _says_as_much_as(usual: Any, value: Any) -> bool:
    if isinstance(usual, dict) and isinstance(value, dict):
        return {**usual, **value} == usual
    return value == usual


def as_llm_config(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Say settings in the words of older clients' `llm_config`; of those that do not fit, nothing."""
    given = settings or {}
    try:
        said = {name: value for name, value in checked(given).items() if name in given}
    except ValueError:
        return {}
    return {
        **{name: said.get(name) for name in _SAME},
        "max_tokens": said.get("max_output_tokens"),
        "response_format": said.get("response_format") or said.get("response_schema"),
        **_thinking_of(said),
    }


def _thinking_of(said: Mapping[str, Any]) -> dict[str, Any]:
    match said:
        case {"thinking": {"type": kind, **more}}:
            budget = more.get("budget_tokens") if kind == "enabled" else None
            return {"enable_reasoner": kind == "enabled", "max_reasoning_tokens": budget}
        case {"thinking_config": {**config}}:
            shown, budget = config.get("include_thoughts"), config.get("thinking_budget")
            return {"enable_reasoner": shown, "max_reasoning_tokens": budget}
        case {"reasoning": {"reasoning_effort": effort}}:
            return {"enable_reasoner": effort != "none", "reasoning_effort": effort}
        case _:
            return {}
