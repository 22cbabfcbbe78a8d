"""What requests may hold and what answers do: the models behind parsing and documentation."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from app.model_settings import ModelSettings
from domain.conversation import Inherited
from domain.events import REGISTRY
from domain.streams import AGENT, VERSION_MAX, pattern_of

PAGE_MAX: Final = 1000
# Ids in a query: all of them have to go into a URL, of which an HTTP parser reads 64 KB.
QUERY_IDS_MAX: Final = 100


def without_nul(text: str) -> str:
    """Refuse the one character that not every database can keep in a text column."""
    if "\0" in text:
        raise ValueError("the character NUL cannot be kept here")
    return text


OFFSET_MAX: Final = VERSION_MAX

Limit: TypeAlias = Annotated[int, Field(ge=0, le=PAGE_MAX)]
Order: TypeAlias = Literal["asc", "desc"]
Handle: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
Name: TypeAlias = Annotated[str, Field(max_length=1024), AfterValidator(without_nul)]
Cursor: TypeAlias = Annotated[str, Field(max_length=128)]


YEARS: Final = range(1970, 9999)


def _in_our_time(moment: datetime) -> datetime:
    if moment.year not in YEARS:
        raise ValueError(f"the year must be from {YEARS[0]} to {YEARS[-1]}")
    return moment


Moment: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_our_time)]


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# For filters that existing clients give as they print a time: without a zone it is UTC.
Instant: TypeAlias = Annotated[datetime, AfterValidator(_in_our_time), AfterValidator(_in_utc)]
WindowLimit: TypeAlias = Annotated[int, Field(gt=0, le=2**31)]


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
    """What a conversation begins with; all of it optional.

    Of the agent's blocks with `isolated_block_labels` it has copies of its own.
    """

    summary: Name | None = None
    description: Name | None = None
    model: Handle | None = None
    model_settings: ModelSettings | None = None
    context_window_limit: WindowLimit | None = None
    hidden: bool | None = None
    isolated_block_labels: Annotated[list[Name], Field(max_length=64)] | None = None


class UpdateConversation(Body):
    """What to change; null changes nothing, as in the original.

    `model_settings` take the place of all that there were.
    """

    summary: Name | None = None
    description: Name | None = None
    model: Handle | None = None
    model_settings: ModelSettings | None = None
    context_window_limit: WindowLimit | None = None
    hidden: bool | None = None
    archived: bool | None = None
    last_message_at: Moment | None = None


class ListConversations(Body):
    """Which conversations, in which order. `after` is the last one of the page before."""

    agent_id: Cursor | None = None
    limit: Limit = 50
    after: Cursor | None = None
    summary_search: Name | None = None
    order: Order = "desc"
    order_by: Literal["created_at", "last_run_completion", "last_message_at"] = "created_at"
    archive_status: Literal["unarchived", "archived", "all"] = "unarchived"


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
        raise ValueError(f"no such type of fact as {name[:64]!r}; there are {', '.join(REGISTRY)}")
    return name


def _split(sent: Any) -> Any:
    """Take `types=a,b` for `types=a&types=b`."""
    if not isinstance(sent, list):
        return sent
    return [name for one in cast("list[str]", sent) for name in str(one).split(",")]


FactType: TypeAlias = Annotated[str, AfterValidator(_known)]


LIMIT_OF_FACTS: Final = (
    "How many facts a page has. Server-sent events end after so many if it is sent, and else have no "
    "limit."
)


class ListFacts(Body):
    """Which facts: those with `after < offset < before` and `since <= at < until`.

    `order=desc` begins at the newest. With `Accept: text/event-stream` they are sent as
    server-sent events, and from then on as they happen unless `follow=false`; the stream ends after
    `limit` of them if one is sent.
    """

    after: Annotated[int, Field(ge=0, le=OFFSET_MAX)] = 0
    before: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, Field(ge=0, le=PAGE_MAX, description=LIMIT_OF_FACTS)] = 100
    order: Order = "asc"
    types: Annotated[list[FactType], BeforeValidator(_split), Field(max_length=64)] | None = None
    follow: bool = True
    deleted: bool = False


class ListConversationFacts(ListFacts):
    """Which facts; `agent_id` says whose conversation `default` is."""

    agent_id: Cursor | None = None


class WindowQuery(Body):
    """The window at which offset; the newest if not said. `agent_id` says whose `default` is."""

    at: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None
    agent_id: Cursor | None = None
    deleted: bool = False


class VerifyQuery(Body):
    """Whether a deleted stream may be looked at."""

    deleted: bool = False


class VerifyConversation(VerifyQuery):
    """Whether a deleted one may be looked at; `agent_id` says whose conversation `default` is."""

    agent_id: Cursor | None = None


class VerdictAnswer(Answer):
    """Whether a stream's hash chain holds, and the first offset where it does not.

    A fork's goes back into its ancestors: `stream` is the one that the offset is of.
    """

    ok: bool
    head: int
    hash: str | None
    first_bad: int | None
    reason: str | None
    stream: Inherited = None
