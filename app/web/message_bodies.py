"""Messages as requests and answers hold them."""

from base64 import b64decode
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, cast

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor, Handle, Limit, Name, Order
from domain.content import InputPart, Text, UrlSource
from projections.letta import Message, StopReasonShown, UsageShown

IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")

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


def _plain(sent: Any) -> Any:
    """Take parts as clients' types have them: `type` may be missing, what is not known is left out."""
    if not isinstance(sent, list):
        return sent
    known = ("type", "text", "source")
    return [
        {"type": "text", **{key: one[key] for key in known if key in one}}
        if isinstance(one, dict)
        else one
        for one in cast("list[Any]", sent)
    ]


def _sayable(content: str | list[InputPart]) -> str | list[InputPart]:
    """Refuse what every vendor would refuse for as long as it is in the window."""
    if isinstance(content, str):
        if not content.strip():
            raise ValueError("there are no words in it")
        return content
    for part in content:
        _check_part(part)
    return content


def _check_part(part: InputPart) -> None:
    if isinstance(part, Text):
        if not part.text.strip():
            raise ValueError("there are no words in a text part")
    elif isinstance(part.source, UrlSource):
        if not part.source.url.startswith(("https://", "http://")):
            raise ValueError("an image's url begins with https:// or http://")
    elif part.source.media_type not in IMAGE_TYPES:
        raise ValueError(f"an image's media_type is one of {', '.join(IMAGE_TYPES)}")
    else:
        try:
            b64decode(part.source.data, validate=True)
        except ValueError as error:
            raise ValueError("an image's data is not base64") from error


Content: TypeAlias = Annotated[
    Annotated[str, Field(min_length=1)]
    | Annotated[list[InputPart], Field(min_length=1, max_length=1000)],
    BeforeValidator(_plain),
    AfterValidator(_sayable),
]


class MessageIn(Body):
    """A message to send in. `type` decides; only `message` is known to this version."""

    type: Literal["message", "approval", "tool_return"] = "message"
    role: Literal["user", "system", "assistant"] | None = None
    content: Content | None = None
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
    input: Content | None = None
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

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, sent: Any) -> Any:
        """Take null for "not set", as everywhere else."""
        if not isinstance(sent, dict):
            return sent
        return {name: one for name, one in cast("dict[str, Any]", sent).items() if one is not None}

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
