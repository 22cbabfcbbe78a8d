"""What requests may hold and what answers do: the models behind parsing and documentation."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from domain.content import InputPart
from domain.events import REGISTRY
from domain.run import StopReason
from domain.streams import AGENT, pattern_of
from projections.letta import Message, StopReasonShown, UsageShown

PAGE_MAX: Final = 1000
# What a database's 64-bit integers hold with room to add to.
OFFSET_MAX: Final = 2**62

Limit: TypeAlias = Annotated[int, Field(ge=0, le=PAGE_MAX)]
Order: TypeAlias = Literal["asc", "desc"]
Handle: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
Name: TypeAlias = Annotated[str, Field(max_length=1024)]
Cursor: TypeAlias = Annotated[str, Field(max_length=128)]


# The union of contract section 9: which vendor a model's settings are written for.
PROVIDER_TYPES: Final = (
    "openai",
    "sglang",
    "anthropic",
    "google_ai",
    "google_vertex",
    "azure",
    "xai",
    "groq",
    "deepseek",
    "together",
    "bedrock",
    "openrouter",
    "zai",
    "moonshot",
    "moonshot_coding",
    "baseten",
    "chatgpt_oauth",
)


def _of_a_known_provider(settings: dict[str, Any]) -> dict[str, Any]:
    if settings.get("provider_type") not in PROVIDER_TYPES:
        raise ValueError(f"provider_type must be one of {', '.join(PROVIDER_TYPES)}")
    return settings


ModelSettings: TypeAlias = Annotated[dict[str, Any], AfterValidator(_of_a_known_provider)]


class Body(BaseModel):
    """A request's body or query; what is not known is ignored, as the original did."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), frozen=True)


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(protected_namespaces=())


class ConversationAnswer(Answer):
    """A conversation as clients see it. `in_context_message_ids` is filled in by retrieve alone."""

    id: str
    agent_id: str
    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: dict[str, Any] | None = None
    context_window_limit: int | None = None
    archived: bool = False
    archived_at: datetime | None = None
    last_message_at: datetime | None = None
    in_context_message_ids: list[str] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created_by_id: str | None = None
    last_updated_by_id: str | None = None
    isolated_block_ids: list[str] = Field(default_factory=list)
    hidden: bool | None = None


# --- conversations ----------------------------------------------------------------------------


class CreateConversationQuery(Body):
    """Whose conversation it is."""

    agent_id: Annotated[str, Field(pattern=pattern_of(AGENT))]


class CreateConversation(Body):
    """What a conversation begins with; all of it optional."""

    summary: Name | None = None
    description: Name | None = None
    model: Handle | None = None
    model_settings: ModelSettings | None = None
    context_window_limit: Annotated[int, Field(gt=0)] | None = None
    hidden: bool | None = None
    isolated_block_labels: list[Name] | None = None


class UpdateConversation(Body):
    """What to change; null changes nothing, as in the original."""

    summary: Name | None = None
    description: Name | None = None
    model: Handle | None = None
    model_settings: ModelSettings | None = None
    context_window_limit: Annotated[int, Field(gt=0)] | None = None
    hidden: bool | None = None
    archived: bool | None = None
    last_message_at: AwareDatetime | None = None


class ListConversations(Body):
    """Which conversations, in which order. `after` is the last one of the page before."""

    agent_id: Cursor | None = None
    limit: Limit = 50
    after: Cursor | None = None
    summary_search: Name | None = None
    order: Order = "desc"
    order_by: Literal["created_at", "last_run_completion", "last_message_at"] = "created_at"
    archive_status: Literal["unarchived", "archived", "all"] = "unarchived"


# --- messages ---------------------------------------------------------------------------------

MessageType: TypeAlias = Literal[
    "system_message",
    "user_message",
    "assistant_message",
    "reasoning_message",
    "hidden_reasoning_message",
    "tool_call_message",
    "tool_return_message",
    "approval_request_message",
    "approval_response_message",
    "summary_message",
    "event_message",
]


class ListMessages(Body):
    """Which messages. `after` is later, `before` earlier; walking `desc`, both are older."""

    agent_id: Cursor | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    group_id: Cursor | None = None
    include_err: bool | None = None
    include_return_message_types: list[MessageType] | None = None


class MessageIn(Body):
    """A message to send in. `type` decides; only `message` is known to this version."""

    type: Literal["message", "approval", "tool_return"] = "message"
    role: Literal["user", "system", "assistant"] | None = None
    content: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[InputPart], Field(min_length=1, max_length=1000)]
        | None
    ) = None
    otid: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    name: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_type(cls, value: Any) -> Any:
        """Tell an approval by its fields where `type` is missing (contract section 3.3)."""
        if isinstance(value, dict) and "type" not in value:
            sent = cast("dict[str, Any]", value)
            if "approve" in sent or "approval_request_id" in sent:
                return {**sent, "type": "approval"}
        return cast("Any", value)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.type == "message" and (self.role is None or self.content is None):
            raise ValueError("a message needs role and content")
        return self


class CreateMessages(Body):
    """A request: messages, and how its run is to be shown. Exactly one of `messages`, `input`."""

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)] | None = None
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[InputPart], Field(min_length=1, max_length=1000)]
        | None
    ) = None
    agent_id: Cursor | None = None
    streaming: bool = True
    stream_tokens: bool = False
    include_pings: bool = True
    background: bool = False
    max_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    include_return_message_types: list[MessageType] | None = None
    override_model: Handle | None = None
    override_system: Annotated[str, Field(max_length=1024 * 1024)] | None = Field(
        default=None, validation_alias=AliasChoices("override_system", "system")
    )
    client_tools: list[dict[str, Any]] | None = None
    client_skills: list[dict[str, Any]] | None = None
    include_compaction_messages: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.messages is None) == (self.input is None):
            raise ValueError("give exactly one of messages and input")
        return self


class ResumeStream(Body):
    """Which run to show, and from where: `starting_after` is the last `seq_id` seen."""

    run_id: Cursor | None = None
    otid: Annotated[str, Field(max_length=256)] | None = None
    agent_id: Cursor | None = None
    starting_after: Annotated[int, Field(ge=0, le=OFFSET_MAX)] | None = None
    include_pings: bool | None = True
    poll_interval: Annotated[float, Field(ge=0)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None


class LettaAnswer(Answer):
    """What a run came to: its output, without the messages that were sent in."""

    messages: list[Message]
    stop_reason: StopReasonShown
    usage: UsageShown
    logprobs: dict[str, Any] | None = None
    turns: list[dict[str, Any]] | None = None


# --- runs -------------------------------------------------------------------------------------


class RunAnswer(Answer):
    """A run as clients see it."""

    id: str
    agent_id: str
    conversation_id: str
    status: Literal["created", "running", "completed", "failed", "cancelled"]
    stop_reason: str | None = None
    background: bool = False
    created_at: datetime
    completed_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    request_config: dict[str, Any] | None = None
    base_template_id: str | None = None
    callback_url: str | None = None
    callback_sent_at: datetime | None = None
    callback_status_code: int | None = None
    callback_error: str | None = None
    ttft_ns: int | None = None
    total_duration_ns: int | None = None


class ListRuns(Body):
    """Which runs. Cursors follow the sort order."""

    agent_id: Cursor | None = None
    agent_ids: Annotated[list[Cursor], Field(max_length=PAGE_MAX)] | None = None
    conversation_id: Cursor | None = None
    statuses: list[str] | None = None
    active: bool = False
    background: bool | None = None
    stop_reason: StopReason | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 100
    order: Order = "desc"
    order_by: Literal["created_at"] = "created_at"
    ascending: bool | None = None


class ListRunMessages(Body):
    """Which messages of a run."""

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 100
    order: Order = "asc"


# --- history ----------------------------------------------------------------------------------


class FactAnswer(Answer):
    """A fact as it is stored: `hash` is the chain's, in hex."""

    offset: int
    type: str
    id: str
    at: datetime
    by: str
    v: int
    hash: str
    data: dict[str, Any]


class FactsAnswer(Answer):
    """A page of facts; `head` is the offset of the newest one of the stream."""

    events: list[FactAnswer]
    head: int


def _known(name: str) -> str:
    if name not in REGISTRY:
        raise ValueError(f"no such type of fact; there are {', '.join(REGISTRY)}")
    return name


def _split(sent: Any) -> Any:
    """Take `types=a,b` for `types=a&types=b`."""
    if not isinstance(sent, list):
        return sent
    return [name for one in cast("list[str]", sent) for name in str(one).split(",")]


FactType: TypeAlias = Annotated[str, AfterValidator(_known)]


class ListFacts(Body):
    """Which facts: those with `after < offset < before` and `since <= at < until`.

    `order=desc` begins at the newest. With `Accept: text/event-stream` they are sent as
    server-sent events, and from then on as they happen unless `follow=false`.
    """

    after: Annotated[int, Field(ge=0, le=OFFSET_MAX)] = 0
    before: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=0, le=PAGE_MAX)] = 100
    order: Order = "asc"
    types: Annotated[list[FactType], BeforeValidator(_split), Field(max_length=64)] | None = None
    follow: bool = True
    deleted: bool = False


class WindowQuery(Body):
    """The window at which offset; the newest if not said."""

    at: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None
    deleted: bool = False


class VerifyQuery(Body):
    """Whether a deleted stream may be looked at."""

    deleted: bool = False


class VerdictAnswer(Answer):
    """Whether a stream's hash chain holds, and the first offset where it does not."""

    ok: bool
    head: int
    hash: str | None
    first_bad: int | None
    reason: str | None
