"""How each vendor's models are told not to think, in the spelling of the contract's union."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

_DISABLED: Final = {"thinking": {"type": "disabled"}}
_NO_BUDGET: Final = {"thinking_config": {"include_thoughts": False, "thinking_budget": 0}}
# How each vendor is told not to think; the others have no such setting. "minimal" is the least that
# OpenAI's small models take.
THINKING_OFF: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "anthropic": _DISABLED,
        "moonshot_coding": _DISABLED,
        "zai": _DISABLED,
        "openai": {"reasoning": {"reasoning_effort": "minimal"}},
        "sglang": {"reasoning": {"reasoning_effort": "none"}},
        "chatgpt_oauth": {"reasoning": {"reasoning_effort": "none"}},
        "google_ai": _NO_BUDGET,
        "google_vertex": _NO_BUDGET,
    }
)
# These answer 400 to being told not to think: they are told nothing about it.
ALWAYS_THINKING: Final = ("claude-fable-", "claude-mythos-", "claude-opus-5-5", "claude-sonnet-5-5")
# What says how much to think. Some models refuse a high effort while they are not to think at all.
ABOUT_THINKING: Final = frozenset({"thinking", "thinking_config", "reasoning", "effort"})


def without_thinking(settings: Mapping[str, Any], provider_type: str, model: str) -> dict[str, Any]:
    """Give a model's settings for a call in which it is not to think, as far as it can be told."""
    others = {name: value for name, value in settings.items() if name not in ABOUT_THINKING}
    if model.startswith(ALWAYS_THINKING):
        return others
    return {**others, **THINKING_OFF.get(provider_type, {})}
