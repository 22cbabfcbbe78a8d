"""The contract's union of model settings (section 9): a shape for each `provider_type`.

The defaults are the contract's. The bounds are the vendors' where they hold for every model of
theirs, else so wide that no vendor takes more. `max_output_tokens` has no default of ours: who does
not give one has the vendor's (mostly 4096; of Google's models 65536), whichever that is by then.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

TOKENS_MAX: Final = 2**31 - 1
PARSER_CHARS_MAX: Final = 256
# Anthropic takes no smaller budget, while it is to think at all.
BUDGET_TOKENS_MIN: Final = 1024

Tokens: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=TOKENS_MAX)]
Temperature: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)]
# What Anthropic's protocol takes.
LowTemperature: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
Switch: TypeAlias = Literal["enabled", "disabled"]


class Shape(BaseModel):
    """Settings, or a part of them: what is not known is ignored, and null is the default."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        sent = cast("dict[str, Any]", given)
        return {name: value for name, value in sent.items() if value is not None}


# --- their parts ------------------------------------------------------------------------------


class TextFormat(Shape):
    """A reply in plain words."""

    type: Literal["text"]


class JsonObjectFormat(Shape):
    """A reply that is a JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(Shape):
    """A reply that fits a JSON schema."""

    type: Literal["json_schema"]
    json_schema: dict[str, Any]


ResponseFormat: TypeAlias = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class OpenAIReasoning(Shape):
    """How hard a model is to think. Without any word about it, that is `high`."""

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] = "minimal"


class ChatGptReasoning(Shape):
    """How hard a model is to think."""

    reasoning_effort: Literal["none", "low", "medium", "high", "xhigh"] = "medium"


class Thinking(Shape):
    """Whether a model is to think, and with how many tokens at most."""

    type: Switch = "enabled"
    budget_tokens: Annotated[int, Field(strict=True, ge=0, le=TOKENS_MAX)] = BUDGET_TOKENS_MIN

    @field_validator("budget_tokens")
    @classmethod
    def _enough_to_think(cls, budget: int, info: ValidationInfo) -> int:
        if info.data.get("type") == "enabled" and budget < BUDGET_TOKENS_MIN:
            raise ValueError(
                f"must be at least {BUDGET_TOKENS_MIN} while thinking is enabled, not {budget}"
            )
        return budget


class ZaiThinking(Shape):
    """Whether a model is to think, and whether its earlier thoughts are dropped."""

    type: Switch = "enabled"
    clear_thinking: StrictBool = False


class ThinkingConfig(Shape):
    """Whether thoughts are shown, and how many tokens they have: -1 leaves it to the model."""

    include_thoughts: StrictBool = True
    thinking_budget: Annotated[int, Field(strict=True, ge=-1, le=TOKENS_MAX)] = 1024


# --- what vendors have in common --------------------------------------------------------------


class Settings(Shape):
    """What every vendor has. `max_output_tokens` is kept only if it is given."""

    max_output_tokens: Tokens | None = None
    parallel_tool_calls: StrictBool = True


class Tempered(Settings):
    """Most vendors' settings."""

    temperature: Temperature = 0.7


class Formatted(Tempered):
    """Most vendors' settings, with the form of a reply."""

    response_format: ResponseFormat | None = None


# --- the vendors ------------------------------------------------------------------------------


class DemoModelSettings(Settings):
    """The model in the box has none; what the list of models names must be taken."""

    provider_type: Literal["demo"]


class OpenAIModelSettings(Formatted):
    """OpenAI."""

    provider_type: Literal["openai"]
    reasoning: OpenAIReasoning = OpenAIReasoning(reasoning_effort="high")
    strict: StrictBool = True


class SgLangModelSettings(Formatted):
    """SGLang."""

    provider_type: Literal["sglang"]
    reasoning: OpenAIReasoning = OpenAIReasoning(reasoning_effort="high")
    strict: StrictBool = True
    tool_call_parser: Annotated[str, Field(max_length=PARSER_CHARS_MAX)] | None = None


class ThinkingSettings(Settings):
    """Those of models that speak Anthropic's protocol."""

    temperature: LowTemperature = 1.0
    thinking: Thinking = Thinking()
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    response_format: ResponseFormat | None = None
    strict: StrictBool = False


class AnthropicModelSettings(ThinkingSettings):
    """Anthropic. That a model thinks by default gives way to a temperature and to little room."""

    provider_type: Literal["anthropic"]


class MoonshotCodingModelSettings(ThinkingSettings):
    """Kimi Code."""

    provider_type: Literal["moonshot_coding"]


class GoogleSettings(Tempered):
    """Those of Gemini, wherever it is had."""

    thinking_config: ThinkingConfig = ThinkingConfig()
    response_schema: ResponseFormat | None = None


class GoogleAIModelSettings(GoogleSettings):
    """Google AI."""

    provider_type: Literal["google_ai"]


class GoogleVertexModelSettings(GoogleSettings):
    """Google Vertex."""

    provider_type: Literal["google_vertex"]


class AzureModelSettings(Formatted):
    """Azure."""

    provider_type: Literal["azure"]


class XaiModelSettings(Formatted):
    """xAI."""

    provider_type: Literal["xai"]


class GroqModelSettings(Formatted):
    """Groq."""

    provider_type: Literal["groq"]


class DeepseekModelSettings(Formatted):
    """DeepSeek."""

    provider_type: Literal["deepseek"]


class TogetherModelSettings(Formatted):
    """Together AI."""

    provider_type: Literal["together"]


class BedrockModelSettings(Formatted):
    """AWS Bedrock."""

    provider_type: Literal["bedrock"]


class OpenRouterModelSettings(Formatted):
    """OpenRouter."""

    provider_type: Literal["openrouter"]


class ZaiModelSettings(Formatted):
    """Z.ai."""

    provider_type: Literal["zai"]
    thinking: ZaiThinking = ZaiThinking()


class MoonshotModelSettings(Settings):
    """Moonshot, of whose models each has a temperature of its own."""

    provider_type: Literal["moonshot"]
    temperature: Temperature | None = None
    response_format: ResponseFormat | None = None
    strict: StrictBool | None = None


class BasetenModelSettings(Tempered):
    """Baseten."""

    provider_type: Literal["baseten"]


class ChatGptOAuthModelSettings(Tempered):
    """ChatGPT."""

    provider_type: Literal["chatgpt_oauth"]
    reasoning: ChatGptReasoning = ChatGptReasoning()


AnyModelSettings: TypeAlias = Annotated[
    OpenAIModelSettings
    | SgLangModelSettings
    | AnthropicModelSettings
    | GoogleAIModelSettings
    | GoogleVertexModelSettings
    | AzureModelSettings
    | XaiModelSettings
    | GroqModelSettings
    | DeepseekModelSettings
    | TogetherModelSettings
    | BedrockModelSettings
    | OpenRouterModelSettings
    | ZaiModelSettings
    | MoonshotModelSettings
    | MoonshotCodingModelSettings
    | BasetenModelSettings
    | ChatGptOAuthModelSettings
    | DemoModelSettings,
    Field(discriminator="provider_type"),
]


def shapes() -> dict[str, type[Settings]]:
    """Give the shape of each `provider_type`, in the order of the union."""
    union, _ = get_args(AnyModelSettings)
    return {_provider_type_of(shape): shape for shape in get_args(union)}


def _provider_type_of(shape: type[Settings]) -> str:
    (name,) = get_args(shape.model_fields["provider_type"].annotation)
    return name
