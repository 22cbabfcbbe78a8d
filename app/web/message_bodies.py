"""Messages as requests and answers hold them."""

from base64 import b64decode
from typing import Annotated, Any, Final, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    StringConstraints,
    model_validator,
)

from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor, Handle, Limit, Name, Order
from domain.content import Approval, InputPart, Text, ToolAnswer, UrlSource
from domain.conversation import Inherited
from domain.streams import AGENT, CONVERSATION, pattern_of

IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")

# `default` and an agent's id are forms of their own (contract section 1.3).
ANY_CONVERSATION: Final = f"^default$|{pattern_of(CONVERSATION)}|{pattern_of(AGENT)}"
AnyConversationId: TypeAlias = Annotated[str, StringConstraints(pattern=ANY_CONVERSATION)]

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


class ListAgentMessages(ListMessages):
    """Which messages of an agent; `conversation_id` is one's id, or `default` for its own."""

    conversation_id: Cursor | None = None


class UpdateMessage(Body):
    """Whether a message is to stay in the window whatever is compacted."""

    pinned: bool


class MessageUpdated(Answer):
    """A message as it is kept: `offset` is its place in the conversation's log.

    It is that of `stream`, which is there only for what a fork inherited.
    """

    id: str
    offset: int
    stream: Inherited = None
    pinned: bool


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


Otid: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
CallId: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
Printed: TypeAlias = Annotated[list[str], Field(max_length=1000)]
Reason: TypeAlias = Annotated[str, Field(max_length=64 * 1024)]


ToolReturn: TypeAlias = Annotated[
    str | Annotated[list[InputPart], Field(max_length=1000)], BeforeValidator(_plain)
]


class AnswerIn(Body):
    """A client's answer to one tool call: its word, or what the tool returned."""

    type: Literal["approval", "tool"]
    tool_call_id: CallId
    approve: bool | None = None
    reason: Reason | None = None
    tool_return: ToolReturn | None = None
    status: Literal["success", "error"] = "success"
    stdout: Printed | None = None
    stderr: Printed | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_type(cls, value: Any) -> Any:
        if isinstance(value, dict) and "type" not in value:
            sent = cast("dict[str, Any]", value)
            return {**sent, "type": "approval" if "approve" in sent else "tool"}
        return cast("Any", value)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.type == "approval" and self.approve is None:
            raise ValueError("an approval needs approve")
        if self.type == "tool" and self.tool_return is None:
            raise ValueError("a tool's answer needs tool_return")
        return self

    @property
    def spoken(self) -> Approval | ToolAnswer:
        """Give it in the domain's words."""
        if self.type == "approval":
            word = Approval(tool_call_id=self.tool_call_id, approve=bool(self.approve))
            return word if self.reason is None else word.model_copy(update={"reason": self.reason})
        returned = self.tool_return or ""
        answer = ToolAnswer(
            tool_call_id=self.tool_call_id,
            tool_return=returned if isinstance(returned, str) else tuple(returned),
            status=self.status,
        )
        printed = {
            name: tuple(lines)
            for name, lines in (("stdout", self.stdout), ("stderr", self.stderr))
            if lines is not None
        }
        return answer.model_copy(update=printed)


Answers: TypeAlias = Annotated[list[AnswerIn], Field(min_length=1, max_length=256)]


class MessageIn(Body):
    """A message to send in; `type` decides which of the fields count (contract section 3.3)."""

    type: Literal["message", "approval", "tool_return"] = "message"
    role: Literal["user", "system", "assistant"] | None = None
    content: Content | None = None
    approvals: Answers | None = None
    tool_returns: Answers | None = None
    approve: bool | None = None
    approval_request_id: CallId | None = None
    reason: Reason | None = None
    otid: Otid | None = None
    name: Name | None = None
    sender_id: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_type(cls, value: Any) -> Any:
        """Tell an approval by its fields where `type` is missing."""
        if isinstance(value, dict) and "type" not in value:
            sent = cast("dict[str, Any]", value)
            if "approve" in sent or "approval_request_id" in sent:
                return {**sent, "type": "approval"}
        return cast("Any", value)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.type == "message" and (self.role is None or self.content is None):
            raise ValueError("a message needs role and content")
        if self.type == "tool_return" and self.tool_returns is None:
            raise ValueError("a tool_return needs tool_returns")
        legacy = self.approve is not None and self.approval_request_id is not None
        if self.type == "approval" and not (self.approvals or legacy):
            raise ValueError("an approval needs approvals")
        return self

    @property
    def answers(self) -> tuple[Approval | ToolAnswer, ...]:
        """Give the answers to tool calls in it; the older form has one."""
        sent = self.tool_returns if self.type == "tool_return" else self.approvals
        if sent:
            return tuple(one.spoken for one in sent)
        if self.type == "approval":
            given = {"tool_call_id": self.approval_request_id, "approve": self.approve}
            legacy = given if self.reason is None else {**given, "reason": self.reason}
            return (Approval.model_validate(legacy),)
        return ()


class ClientTool(Body):
    """A tool that the client runs; without a schema it takes an empty object."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    description: Annotated[str, Field(max_length=64 * 1024)] | None = None
    parameters: dict[str, Any] | None = None


def _named_once(tools: list[ClientTool]) -> list[ClientTool]:
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the name {name!r} stands twice")
    return tools


ClientTools: TypeAlias = Annotated[
    list[ClientTool], Field(max_length=256), AfterValidator(_named_once)
]


class AgentMessages(Body):
    """A request: messages, and how its run is to be shown. Exactly one of `messages`, `input`.

    `on_busy` says what becomes of it while another run is not over. Without it a stream is turned
    down, and anything else waits for its turn.
    """

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)] | None = None
    input: Content | None = None
    streaming: bool = False
    stream_tokens: bool = False
    include_pings: bool = True
    background: bool = False
    on_busy: Literal["reject", "enqueue", "interrupt", "rollback", "steer"] | None = None
    max_steps: Annotated[int, Field(ge=1, le=1000)] = 50
    include_return_message_types: list[MessageType] | None = None
    override_model: Handle | None = None
    override_system: Annotated[str, Field(max_length=1024 * 1024)] | None = Field(
        default=None, validation_alias=AliasChoices("override_system", "system")
    )
    client_tools: ClientTools | None = None
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
        for one in (self.messages or [])[1:]:
            if one.type != "message":
                raise ValueError(f"an {one.type} must be the first message of its request")
        return self


class CreateMessages(AgentMessages):
    """A request to a conversation, which is a stream unless it says otherwise."""

    agent_id: Cursor | None = None
    streaming: bool = True


class CreateAsync(AgentMessages):
    """A request to be carried out in the background; `callback_url` is told of its end."""

    callback_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None


class OwnerQuery(Body):
    """Whose conversation `default` is."""

    agent_id: Cursor | None = None


class CancelBody(Body):
    """Which runs; all that are not over if it does not say."""

    run_ids: Annotated[list[Cursor], Field(min_length=1, max_length=1000)] | None = None


class WaitingAnswer(Answer):
    """A message that waits for its turn; `offset` is where it waits, `run_id` what cancels it."""

    message_id: str
    run_id: str
    offset: int
    mode: Literal["enqueue", "steer", "interrupt"]
    role: Literal["user", "system", "assistant"]
    content: str | list[InputPart]
    otid: str


class ResumeStream(Body):
    """Which run to show, and from where: `starting_after` is the last `seq_id` seen."""

    run_id: Cursor | None = None
    otid: Annotated[str, Field(max_length=256)] | None = None
    agent_id: Cursor | None = None
    starting_after: Annotated[int, Field(ge=0, le=OFFSET_MAX)] | None = None
    include_pings: bool | None = True
    poll_interval: Annotated[float, Field(ge=0)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
