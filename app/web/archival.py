"""Archival memory: passages that an agent keeps outside its window, put in, listed and searched."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final
from uuid import uuid4

from app.memory.archival import FOUND_DEFAULT, Page
from app.web.agent_answers import living_agent
from app.web.archival_bodies import (
    ArchiveHitAnswer,
    InsertPassage,
    ListPassages,
    PassageAnswer,
    PassageHitAnswer,
    SearchArchive,
    SearchArchiveAnswer,
    SearchPassages,
)
from app.web.endpoint import AgentId, Label, endpoint
from app.web.errors import Invalid
from app.web.pages import row_of
from app.web.search import CorrectionAnswer
from app.web.services import Services
from app.web.stream import checked_cursor
from domain import archive as domain
from domain.errors import NotFound
from domain.streams import AGENT, PASSAGE, archive_of, id_of, is_id, owner_of
from projections.passages import (
    Found,
    Passage,
    Wanted,
    since_of,
    until_of,
    zone_of,
)

# More are not searched at once.
ARCHIVES_MAX: Final = 100


async def insert_passage(
    services: Services, agent_id: AgentId, body: InsertPassage
) -> list[PassageAnswer]:
    """Put a text into an agent's archival memory."""
    return await inserted(services, agent_id, [body])


async def inserted(
    services: Services, agent_id: str, bodies: Sequence[InsertPassage]
) -> list[PassageAnswer]:
    """Put texts into an agent's archive, all or none. Raises 404, 409 for what does not fit, 422."""
    zone = await _zone(services, agent_id)
    several = len(bodies) > 1
    passages = [
        domain.InsertPassage(
            id_of(PASSAGE, uuid4()),
            body.text,
            tuple(body.tags or ()),
            _moment(
                f"passages[{number}].created_at" if several else "created_at",
                body.created_at,
                zone,
                since_of,
            ),
            body.metadata,
        )
        for number, body in enumerate(bodies)
    ]
    made = await services.archival.insert_all(agent_id, passages, by="user")
    return [shown_passage(one) for one in made]


async def list_passages(
    services: Services, agent_id: AgentId, query: ListPassages
) -> list[PassageAnswer]:
    """List an agent's archival memory in order of time."""
    await living_agent(services, agent_id)
    if query.at is not None:
        await checked_cursor(services, archive_of(agent_id), query.at)
    page = Page(query.after, query.before, query.limit, query.ascending, query.search)
    found = await services.archival.list(agent_id, page, Wanted(at=query.at))
    return [shown_passage(one) for one in found]


async def search_archive(
    services: Services, agent_id: AgentId, query: SearchArchive
) -> SearchArchiveAnswer:
    """Search an agent's archival memory."""
    zone = await _zone(services, agent_id)
    wanted = Wanted(
        tags=query.tags or (),
        match=query.tag_match_mode,
        since=_moment("start_datetime", query.start_datetime, zone, since_of),
        until=_moment("end_datetime", query.end_datetime, zone, until_of),
    )
    limit = query.top_k or FOUND_DEFAULT
    return _shown(await services.archival.search(agent_id, query.query, limit, wanted), zone)


async def delete_passage(
    services: Services, agent_id: AgentId, passage_id: Label
) -> dict[str, str]:
    """Take a passage out of an agent's archival memory; its history keeps it."""
    await living_agent(services, agent_id)
    await services.archival.delete(agent_id, passage_id, by="user")
    return {"message": f"Passage id={passage_id} successfully deleted"}


async def search_passages(services: Services, body: SearchPassages) -> list[PassageHitAnswer]:
    """Search the archival memory of one agent, or of all."""
    wanted = Wanted(
        tags=body.tags or (),
        match=body.tag_match_mode,
        since=_moment("start_date", body.start_date, UTC, since_of),
        until=_moment("end_date", body.end_date, UTC, until_of),
    )
    agents = await _searched(services, body)
    found = await services.archival.search_each(agents, body.query or "", body.limit, wanted)
    hits = [hit for one in found for hit in one.hits]
    # Without a question all scores are alike: then the newest come first.
    hits.sort(key=lambda hit: (hit.score, hit.passage.created_at), reverse=True)
    return [
        PassageHitAnswer(passage=shown_passage(hit.passage), score=hit.score)
        for hit in hits[: body.limit]
    ]


async def _searched(services: Services, body: SearchPassages) -> Sequence[str]:
    """Name the agents whose archives are searched. Raises 404 or 422."""
    if body.agent_id is not None:
        if not is_id(AGENT, body.agent_id):
            raise NotFound("Agent", body.agent_id)
        await living_agent(services, body.agent_id)
        return [body.agent_id]
    if body.archive_id is not None:
        if await row_of(services, "archive", body.archive_id) is None:
            raise NotFound("Archive", body.archive_id)
        return [owner_of(body.archive_id)]
    agents = await services.archival.agents(ARCHIVES_MAX + 1)
    if len(agents) > ARCHIVES_MAX:
        raise Invalid(f"agent_id: there are more than {ARCHIVES_MAX} archives; say whose to search")
    return agents


async def _zone(services: Services, agent_id: str) -> tzinfo:
    """Give the time zone of an agent that is there. Raises 404."""
    settings = (await living_agent(services, agent_id)).settings
    return zone_of(None if settings is None else settings.timezone)


def _moment(
    name: str, text: str | None, zone: tzinfo, read: Callable[[str, tzinfo], datetime]
) -> datetime | None:
    if not text:
        return None
    try:
        return read(text, zone)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{name}: a date or a moment in ISO 8601 is needed: {error}") from error


def shown_passage(passage: Passage) -> PassageAnswer:
    """Give a passage as clients see it."""
    return PassageAnswer(
        id=passage.passage_id,
        archive_id=passage.archive_id,
        offset=passage.version,
        text=passage.text,
        tags=list(passage.tags),
        metadata=passage.metadata or {},
        created_at=passage.created_at,
    )


def _shown(found: Found, zone: tzinfo) -> SearchArchiveAnswer:
    return SearchArchiveAnswer(
        results=[
            ArchiveHitAnswer(
                id=hit.passage.passage_id,
                content=hit.passage.text,
                timestamp=hit.passage.created_at.astimezone(zone).isoformat(),
                tags=list(hit.passage.tags),
                score=hit.score,
            )
            for hit in found.hits
        ],
        count=len(found.hits),
        search_mode=found.mode,
        corrections=[
            CorrectionAnswer(word=one.word, instead=one.instead) for one in found.corrections
        ],
    )


ROOT: Final = "/v1/agents/{agent_id}/archival-memory"
ENDPOINTS: Final = [
    endpoint("POST", ROOT, insert_passage, list[PassageAnswer], tag="archival", errors=(404, 409)),
    endpoint("GET", ROOT, list_passages, list[PassageAnswer], tag="archival", errors=(404, 409)),
    endpoint(
        "GET",
        f"{ROOT}/search",
        search_archive,
        SearchArchiveAnswer,
        tag="archival",
        errors=(404,),
    ),
    endpoint(
        "DELETE",
        f"{ROOT}/{{passage_id}}",
        delete_passage,
        dict[str, str],
        tag="archival",
        errors=(404,),
    ),
    endpoint(
        "POST",
        "/v1/passages/search",
        search_passages,
        list[PassageHitAnswer],
        tag="archival",
        errors=(404,),
    ),
]
