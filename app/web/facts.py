"""Our own routes: the facts of a stream, the window at an offset, whether the chain holds."""

from dataclasses import asdict
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from app.history.pages import first_since
from app.mapper import Row, event_json
from app.storage.integrity import verify_stream
from app.storage.store import VERSION_MAX, Store
from app.web.bodies import (
    FactsAnswer,
    ListConversationFacts,
    ListFacts,
    VerdictAnswer,
    VerifyConversation,
    VerifyQuery,
    WindowQuery,
)
from app.web.endpoint import AgentId, ArchiveId, BlockId, Endpoint, endpoint
from app.web.errors import Invalid
from app.web.lookups import audited_stream, existing_stream
from app.web.message_bodies import AnyConversationId
from app.web.services import Services
from app.web.stream import SSE_TYPE, EventStream, Wanted, checked_cursor, facts_stream
from domain.events import DELTA
from projections.shown_window import WindowAnswer, shown

SCAN_ROWS: Final = 1000


async def list_conversation_facts(
    services: Services,
    conversation_id: AnyConversationId,
    query: ListConversationFacts,
    request: Request,
) -> Any:
    """Give facts of a conversation: a page, or server-sent events."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    return await _facts(services, stream, query, request)


async def list_agent_facts(
    services: Services, agent_id: AgentId, query: ListFacts, request: Request
) -> Any:
    """Give facts of an agent: a page, or server-sent events."""
    await existing_stream(services, agent_id, "Agent", deleted=query.deleted)
    return await _facts(services, agent_id, query, request)


async def list_block_facts(
    services: Services, block_id: BlockId, query: ListFacts, request: Request
) -> Any:
    """Give facts of a block: a page, or server-sent events."""
    await existing_stream(services, block_id, "Block", deleted=query.deleted)
    return await _facts(services, block_id, query, request)


async def list_archive_facts(
    services: Services, archive_id: ArchiveId, query: ListFacts, request: Request
) -> Any:
    """Give facts of an archive: a page, or server-sent events."""
    await existing_stream(services, archive_id, "Archive", deleted=query.deleted)
    return await _facts(services, archive_id, query, request)


async def _facts(services: Services, stream: str, query: ListFacts, request: Request) -> Response:
    types = frozenset(query.types) if query.types else None
    if SSE_TYPE in request.headers.get("accept", ""):
        after = await _start(services, stream, query, request)
        # A page has a limit in any case; a stream, if one was asked for.
        limit = query.limit if "limit" in query.model_fields_set else VERSION_MAX
        wanted = Wanted(types, limit, query.follow)
        return EventStream(await facts_stream(services, stream, after, wanted))
    head = await checked_cursor(services, stream, query.after)
    page = partial(_page, services.log.store, stream, query, types)
    rows = await services.log.in_reader(page)
    events = b",".join(map(event_json, rows))
    body = b'{"events":[' + events + b'],"head":' + str(head).encode() + b"}"
    return Response(body, media_type="application/json")


async def _start(services: Services, stream: str, query: ListFacts, request: Request) -> int:
    """Give the offset to begin after; `Last-Event-ID` wins over `after`."""
    if query.order == "desc" or query.before is not None or query.until is not None:
        raise Invalid("order=desc, before and until are for pages, not for server-sent events")
    last = request.headers.get("last-event-id")
    if last is not None:
        if not last.isascii() or not last.isdigit() or len(last) > len(str(VERSION_MAX)):
            raise Invalid("Last-Event-ID: it is an offset, a whole number from 0")
        return int(last)
    if query.since is None:
        return query.after
    since = query.since
    first = await services.log.in_reader(lambda: first_since(services.log.store, stream, since))
    return max(query.after, first - 1)


def _page(store: Store, stream: str, query: ListFacts, types: frozenset[str] | None) -> list[Row]:
    """Read in a reader's thread: bounds in time become offsets, then rows are picked."""
    after = query.after
    upto = VERSION_MAX if query.before is None else query.before - 1
    if query.since is not None:
        after = max(after, first_since(store, stream, query.since) - 1)
    if query.until is not None:
        upto = min(upto, first_since(store, stream, query.until) - 1)
    return _picked(store, stream, query, types, after=after, upto=upto)


def _picked(  # noqa: PLR0913 - a page's bounds
    store: Store,
    stream: str,
    query: ListFacts,
    types: frozenset[str] | None,
    *,
    after: int,
    upto: int,
) -> list[Row]:
    newest_first = query.order == "desc"
    deltas = types is None or DELTA in types
    found: list[Row] = []
    while len(found) < query.limit and after < upto:
        rows = store.read(
            stream,
            after=after,
            upto=upto,
            limit=min(SCAN_ROWS, query.limit) if types is None else SCAN_ROWS,
            deltas=deltas,
            newest_first=newest_first,
        )
        if not rows:
            break
        found += [row for row in rows if types is None or row.topic in types]
        if newest_first:
            upto = rows[-1].version - 1
        else:
            after = rows[-1].version
    return found[: query.limit]


async def show_window(
    services: Services, conversation_id: AnyConversationId, query: WindowQuery
) -> WindowAnswer:
    """Give the window at an offset: what the model would have seen, and where it comes from."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    head = await checked_cursor(services, stream, query.at or 0)
    return shown(await services.windows.at(stream, query.at or head))


async def verify_conversation(
    services: Services, conversation_id: AnyConversationId, query: VerifyConversation
) -> Any:
    """Check a conversation's hash chain."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    return await _verdict(services, stream)


async def verify_agent(services: Services, agent_id: AgentId, query: VerifyQuery) -> Any:
    """Check an agent's hash chain."""
    await existing_stream(services, agent_id, "Agent", deleted=query.deleted)
    return await _verdict(services, agent_id)


async def verify_block(services: Services, block_id: BlockId, query: VerifyQuery) -> Any:
    """Check a block's hash chain."""
    await existing_stream(services, block_id, "Block", deleted=query.deleted)
    return await _verdict(services, block_id)


async def verify_archive(services: Services, archive_id: ArchiveId, query: VerifyQuery) -> Any:
    """Check an archive's hash chain."""
    await existing_stream(services, archive_id, "Archive", deleted=query.deleted)
    return await _verdict(services, archive_id)


async def _verdict(services: Services, stream: str) -> VerdictAnswer:
    verdict = await services.log.in_reader(lambda: verify_stream(services.log.store, stream))
    return VerdictAnswer(**asdict(verdict))


def _of(name: str, facts: Any, verify: Any) -> list[Endpoint]:
    one = f"/v1/{name}s/{{{name}_id}}"
    media_types = ("application/json", SSE_TYPE)
    return [
        endpoint(
            "GET",
            f"{one}/events",
            facts,
            FactsAnswer,
            tag="history",
            errors=(404, 409),
            media_types=media_types,
        ),
        endpoint("GET", f"{one}/verify", verify, VerdictAnswer, tag="history", errors=(404,)),
    ]


ENDPOINTS: Final = [
    *_of("conversation", list_conversation_facts, verify_conversation),
    *_of("agent", list_agent_facts, verify_agent),
    *_of("block", list_block_facts, verify_block),
    *_of("archive", list_archive_facts, verify_archive),
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/window",
        show_window,
        WindowAnswer,
        tag="history",
        errors=(404, 409),
    ),
]
