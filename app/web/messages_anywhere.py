"""Messages whatever conversation they are in: one by its id, all in order of time, those that match."""

from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field

from app.history.holders import LISTED_OR_FORKED, Holders
from app.recall.search_across import Found, SearchAcross
from app.storage.store import Store
from app.web.bodies import Answer, Body, Cursor, Instant, Limit, Order
from app.web.endpoint import MessageId, endpoint
from app.web.errors import ApiError, NotYet
from app.web.lookups import conversation_at
from app.web.message_bodies import ListMessages, MessageType
from app.web.messages import list_messages
from app.web.services import Services
from domain.conversation import Inherited
from domain.errors import NotFound
from domain.streams import AGENT, is_default, is_id
from projections.columns import Scalar
from projections.letta import only
from projections.search_answers import Only
from projections.search_questions import QUESTION_CHARS_MAX
from projections.wire import Message

HITS_MAX: Final = 100
# Of an agent with more conversations, those with the newest messages are searched.
CONVERSATIONS_MAX: Final = 200
# Places are read so many at a time, as not every one is of a message that lists show.
PLACES_MIN: Final = 32
# As conversations are listed: those that memory is consolidated in, say, are not.
_PLACES: Final = (
    "SELECT locators.* FROM locators "  # noqa: S608 - our own words
    "JOIN conversations ON conversations.conversation_id = locators.stream "
    f"WHERE {LISTED_OR_FORKED} AND locators.at IS NOT NULL "
)
_PLACES_OF: Final = "SELECT * FROM locators WHERE id = ? AND at IS NOT NULL"
_ORDER: Final = ("at", "stream", "version")
_PLACE: Final = "(locators.at, locators.stream, locators.version)"

Role: TypeAlias = Literal["user", "assistant", "system"]


# --- one --------------------------------------------------------------------------------------


async def retrieve_message(services: Services, message_id: MessageId) -> list[Message]:
    """Give a message of any conversation: all items that lists show of it."""
    rows = await services.log.query(_PLACES_OF, (message_id,))
    holders = Holders(services.log.store, hidden=True)
    for row in rows:
        items = await services.log.in_reader(lambda row=row: _items_at(holders, row))
        if items:
            return items
    raise ApiError(404, f"Message not found with id={message_id}")


def _items_at(holders: Holders, row: dict[str, Any]) -> list[Message]:
    """Give the items of the message at a place, none if lists leave it out. Blocks."""
    return holders.items(row["stream"], row["version"], row["id"])


# --- all --------------------------------------------------------------------------------------


class ListAllMessages(Body):
    """Which messages: of one conversation, or of all of them in order of time.

    Going `desc`, `after` the last message seen is older, as `before` it is.
    """

    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 100
    order: Order = "desc"
    conversation_id: Cursor | None = None
    include_return_message_types: list[MessageType] | None = None


async def list_all_messages(services: Services, query: ListAllMessages) -> list[Message]:
    """List the messages of all conversations; `limit` counts them, not their items."""
    if query.conversation_id is not None:
        asked = ListMessages.model_validate(query.model_dump())
        return await list_messages(services, query.conversation_id, asked)
    bounds, params = await _bounds(services, query)
    # Going `asc`, `before` alone means those just before it, so it is read from there backwards.
    newest_first = query.order == "desc" or (query.before is not None and query.after is None)
    log = services.log
    found = await log.in_reader(
        lambda: _page(log.store, bounds, params, query.limit, newest_first=newest_first)
    )
    if newest_first and query.order == "asc":
        found.reverse()
    newest_item_first = query.order == "desc"
    items = [one for group in found for one in (group[::-1] if newest_item_first else group)]
    return only(items, query.include_return_message_types)


async def _bounds(services: Services, query: ListAllMessages) -> tuple[str, list[Scalar]]:
    after, before = query.after, query.before
    if query.order == "desc" and after is not None and before is None:
        after, before = None, after
    bounds, params = "", list[Scalar]()
    for cursor, sign in ((after, ">"), (before, "<")):
        if cursor is not None:
            bounds += f"AND {_PLACE} {sign} (?, ?, ?) "
            params += await _place(services, cursor)
    return bounds, params


async def _place(services: Services, message_id: str) -> list[Scalar]:
    rows = await services.log.query(f"{_PLACES_OF} ORDER BY at LIMIT 1", (message_id,))
    if not rows:
        raise ApiError(404, f"Message not found with id={message_id}")
    return [rows[0][name] for name in _ORDER]


def _page(
    store: Store, bounds: str, params: list[Scalar], limit: int, *, newest_first: bool
) -> list[list[Message]]:
    """Read places in order of time until as many messages are found. Blocks."""
    way, sign = ("DESC", "<") if newest_first else ("ASC", ">")
    order = ", ".join(f"locators.{one} {way}" for one in _ORDER)
    groups: list[list[Message]] = []
    holders = Holders(store)
    places, going_on, known = max(limit, PLACES_MIN), "", list[Scalar]()
    while len(groups) < limit:
        sql = f"{_PLACES}{bounds}{going_on}ORDER BY {order} LIMIT ?"
        rows = store.query(sql, (*params, *known, places))
        holders.look_up([row["stream"] for row in rows])
        items = filter(None, (_items_at(holders, row) for row in rows))
        groups += islice(items, limit - len(groups))
        if len(rows) < places:
            return groups
        going_on = f"AND {_PLACE} {sign} (?, ?, ?) "
        known = [rows[-1][name] for name in _ORDER]
    return groups


# --- those that match -------------------------------------------------------------------------


class SearchMessages(Body):
    """What to look for and where: in a conversation, in those of an agent, or in all.

    Messages have no vectors: `hybrid` is full text, too. `start_date <= created_at <= end_date`;
    times without a zone are UTC.
    """

    query: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARS_MAX)]
    agent_id: Cursor | None = None
    conversation_id: Cursor | None = None
    search_mode: Literal["vector", "fts", "hybrid"] = "hybrid"
    roles: Annotated[list[Role], Field(max_length=3)] | None = None
    limit: Annotated[int, Field(ge=0, le=HITS_MAX)] = 50
    start_date: Instant | None = None
    end_date: Instant | None = None

    @property
    def only(self) -> Only:
        """Which texts will do."""
        roles: tuple[Role, ...] = tuple(self.roles or ("user", "assistant", "system"))
        # A moment that is the last one is not the first too late.
        until = None if self.end_date is None else self.end_date + timedelta(microseconds=1)
        return Only(frozenset(roles), self.start_date, until)


class FoundMessage(Answer):
    """A message that was found, the best first; `offset` is its place in its conversation.

    `conversation_id` is null in an agent's own. `stream` is there only for what a fork has inherited:
    the offset is that of this one. `excerpt` is a stretch around what was looked for, `search_mode`
    how it was found.
    """

    message_type: Literal["user_message", "assistant_message", "system_message"]
    message_id: str
    content: str
    created_at: datetime
    agent_id: str
    conversation_id: str | None
    offset: int
    stream: Inherited = None
    excerpt: str
    score: float
    search_mode: Literal["fts"] = "fts"


TYPES: Final[dict[str, Any]] = {
    "user": "user_message",
    "assistant": "assistant_message",
    "system": "system_message",
}


async def search_messages(services: Services, body: SearchMessages) -> list[FoundMessage]:
    """Search what was said, whether a model still sees it or not, and give whole messages."""
    if body.search_mode == "vector":
        raise NotYet("messages have no vectors; use search_mode fts, or hybrid, which is the same")
    streams, within = None, None
    if body.conversation_id is not None:
        within = await _conversation(services, body.conversation_id, body.agent_id)
    elif body.agent_id is not None:
        streams = await _conversations_of(services, body.agent_id)
    across = SearchAcross(services.log)
    found = await across.find(body.query, streams, within=within, limit=body.limit, only=body.only)
    return [_shown(one) for one in found]


async def _conversations_of(services: Services, agent_id: str) -> list[str]:
    """Name the conversations of an agent in which something may be found. Raises NotFound."""
    if not is_id(AGENT, agent_id):
        raise NotFound("Agent", agent_id)
    agent = await services.execute.agent(agent_id)
    if agent.settings is None or agent.deleted:
        raise NotFound("Agent", agent_id)
    rows = await services.log.query(
        f"SELECT conversation_id FROM conversations WHERE agent_id = ? AND {LISTED_OR_FORKED} "  # noqa: S608 - our own words
        "ORDER BY coalesce(last_message_at, created_at) DESC LIMIT ?",
        (agent_id, CONVERSATIONS_MAX),
    )
    return [row["conversation_id"] for row in rows]


async def _conversation(services: Services, conversation_id: str, agent_id: str | None) -> str:
    stream, state = await conversation_at(services, conversation_id, agent_id)
    if agent_id is not None and state.agent_id != agent_id:
        raise NotFound("Conversation", conversation_id)
    return stream


def _shown(found: Found) -> FoundMessage:
    own = is_default(found.conversation_id, found.agent_id)
    return FoundMessage(
        message_type=TYPES[found.role],
        message_id=found.message_id,
        content=found.text,
        created_at=found.at,
        agent_id=found.agent_id,
        conversation_id=None if own else found.conversation_id,
        offset=found.offset,
        stream=found.stream,
        excerpt=found.excerpt,
        score=found.score,
    )


ALL: Final = "/v1/messages/"
ENDPOINTS: Final = [
    endpoint("GET", ALL, list_all_messages, list[Message], tag="messages", errors=(404,)),
    endpoint(
        "POST",
        f"{ALL}search",
        search_messages,
        list[FoundMessage],
        tag="messages",
        errors=(404, 501),
    ),
    endpoint(
        "GET",
        f"{ALL}{{message_id}}",
        retrieve_message,
        list[Message],
        tag="messages",
        errors=(404,),
    ),
]
