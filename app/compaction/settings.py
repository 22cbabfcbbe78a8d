"""Compaction settings: what a request may say, what an agent keeps, who writes the summary.

An agent's settings are complete from its creation on (contract 8.2). Those of agents that were
stored before that was so are completed whenever they are looked at, and not rewritten for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.model_settings import ModelSettings, without_thinking
from app.providers.catalogue import Catalogue, MalformedHandle, Resolved, UnknownHandle
from app.settings import Handle
from domain.compaction import MODE_DEFAULT, PERCENTAGE_DEFAULT, CompactionMode, CompactionSettings
from projections.prompts import PROMPTS

HANDLE_CHARS_MAX: Final = 256
PROMPT_CHARS_MAX: Final = 50_000
SELF_MODES: Final = frozenset({"self_compact_all", "self_compact_sliding_window"})
# A provider's model that is good enough for summaries and cheap; without one, the agent's own.
CHEAP_MODELS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "anthropic/claude-haiku-4-5",
        "openai": "openai/gpt-5-mini",
        "google_ai": "google_ai/gemini-2.5-flash",
        "letta": "letta/auto",
    }
)


class CompactionSettingsIn(BaseModel):
    """What a request says about compaction. What was sent counts, null as well.

    Null is the default, but for `clip_chars`, where it is "do not clip".
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)

    mode: CompactionMode | None = None
    model: Annotated[Handle, Field(max_length=HANDLE_CHARS_MAX)] | None = None
    model_settings: ModelSettings | None = None
    prompt: Annotated[str, Field(max_length=PROMPT_CHARS_MAX)] | None = None
    prompt_acknowledgement: bool | None = None
    clip_chars: Annotated[int, Field(ge=0, le=2**31)] | None = None
    sliding_window_percentage: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = (
        None
    )
    min_retention: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None

    @property
    def sent(self) -> dict[str, Any]:
        """The fields that the request has."""
        return {name: getattr(self, name) for name in self.model_fields_set}


# --- merging ----------------------------------------------------------------------------------


def merged(
    agent_settings: CompactionSettings,
    request: CompactionSettingsIn | None,
    percentage: float = PERCENTAGE_DEFAULT,
) -> CompactionSettings:
    """Give the settings of one compaction: the agent's, but for what its request sent.

    A prompt was written for its mode: another mode brings its own unless a prompt was sent along.
    An empty prompt is none, that is, the mode's default.
    """
    sent = {} if request is None else request.sent
    mode = (sent.get("mode") or MODE_DEFAULT) if "mode" in sent else agent_settings.mode
    prompt = agent_settings.prompt
    if "prompt" in sent or mode != agent_settings.mode:
        prompt = _prompt_of(mode, sent.get("prompt"))
    changes = {**_without_nulls(sent, percentage), "mode": mode, "prompt": prompt}
    return agent_settings.model_copy(update=changes)


def _prompt_of(mode: CompactionMode, sent: str | None) -> str:
    return sent if sent is not None and sent.strip() else PROMPTS[mode]


def _without_nulls(sent: Mapping[str, Any], percentage: float) -> dict[str, Any]:
    """Spell out the defaults that null stands for."""
    defaults = {"prompt_acknowledgement": False, "sliding_window_percentage": percentage}
    return {name: defaults.get(name) if value is None else value for name, value in sent.items()}


# --- an agent's -------------------------------------------------------------------------------


def derived_model(handle: str) -> str:
    """Name the summariser of an agent that names none: its provider's cheap model, or its own."""
    return CHEAP_MODELS.get(handle.partition("/")[0], handle)


def initial(
    model: str, request: CompactionSettingsIn | None, percentage: float = PERCENTAGE_DEFAULT
) -> CompactionSettings:
    """Give the settings that an agent of this model begins with."""
    defaults = CompactionSettings(
        prompt=PROMPTS[MODE_DEFAULT], sliding_window_percentage=percentage
    )
    return _with_model(merged(defaults, request, percentage), model)


def complete(
    model: str, stored: Mapping[str, Any] | None, percentage: float = PERCENTAGE_DEFAULT
) -> CompactionSettings:
    """Give an agent's settings in full. What is missing, or could not be used, is the default."""
    return initial(model, _readable(stored or {}), percentage)


def updated(
    now: CompactionSettings,
    request: CompactionSettingsIn | None,
    *,
    models: tuple[str, str],
    percentage: float = PERCENTAGE_DEFAULT,
) -> CompactionSettings:
    """Give an agent's settings after an update. `models` are the agent's before and after it.

    A summariser that was derived from the model before is derived from the model after.
    """
    before, after = models
    if now.model == derived_model(before):
        now = now.model_copy(update={"model": derived_model(after)})
    return _with_model(merged(now, request, percentage), after)


def _with_model(settings: CompactionSettings, model: str) -> CompactionSettings:
    if settings.model is not None:
        return settings
    return settings.model_copy(update={"model": derived_model(model)})


def _readable(stored: Mapping[str, Any]) -> CompactionSettingsIn:
    """Read what was stored, whenever that was: fields were not always checked.

    A model's settings stay as they are, so that nothing is filled in that nobody has stored.
    """
    try:
        read = CompactionSettingsIn.model_validate(stored)
    except ValidationError as error:
        bad = {problem["loc"][0] for problem in error.errors(include_url=False)}
        good = {name: value for name, value in stored.items() if name not in bad}
        read = CompactionSettingsIn.model_validate(good)
    if read.model_settings is None:
        return read
    return read.model_copy(update={"model_settings": stored["model_settings"]})


# --- who writes the summary -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SummaryModel:
    """The model that writes a summary, and the settings of the call."""

    resolved: Resolved
    settings: dict[str, Any]


def summariser_of(
    catalogue: Catalogue,
    settings: CompactionSettings,
    own_model: str,
    own_settings: Mapping[str, Any],
) -> SummaryModel:
    """Choose the model that writes a summary. `own_…` are what the conversation runs with.

    In the self modes it is that, its settings untouched: with others, and be it only with thinking
    off, a vendor would not find what it has cached. Otherwise it is the model that the settings
    name; if that is not to be had, the provider's cheap one; if that is not, the conversation's own.
    The `model_settings` go with the model that they were given for, and thinking is off. Raises
    UnknownHandle or MalformedHandle if not even the conversation's own model is to be had.
    """
    if settings.mode in SELF_MODES:
        return SummaryModel(catalogue.resolve(own_model), dict(own_settings))
    named = settings.model or derived_model(own_model)
    resolved = _found(catalogue, named)
    given = (settings.model_settings or {}) if resolved is not None else {}
    if resolved is None:
        resolved = _found(catalogue, derived_model(own_model)) or catalogue.resolve(own_model)
    quiet = without_thinking(given, resolved.provider_type, resolved.model)
    return SummaryModel(resolved, quiet)


def _found(catalogue: Catalogue, handle: str) -> Resolved | None:
    try:
        return catalogue.resolve(handle)
    except (UnknownHandle, MalformedHandle):
        return None
