"""Archives by their own ids. Each is an agent's own; archives that several share there are none."""

from typing import Any, Final, NoReturn

from app.web.agent_answers import living_agent
from app.web.archival import inserted
from app.web.archival_bodies import (
    ArchiveAnswer,
    InsertPassage,
    InsertPassages,
    ListArchives,
    PassageAnswer,
)
from app.web.endpoint import AgentId, ArchiveId, Label, endpoint
from app.web.errors import NotYet
from app.web.pages import Selection, row_of
from app.web.services import Services
from domain.errors import NotFound
from domain.streams import owner_of

NAME: Final = "Archival memory"
OWN: Final = "each agent has an archive of its own, which begins with its first passage"


async def list_archives(services: Services, query: ListArchives) -> list[ArchiveAnswer]:
    """List archives."""
    selection = Selection("archive")
    selection.equal("agent_id", query.agent_id)
    if query.name is not None and query.name != NAME:
        selection.add("1 = 0")
    rows = await selection.page(
        services, after=query.after, before=query.before, order=query.order, limit=query.limit
    )
    return [await _shown(services, row) for row in rows]


async def retrieve_archive(services: Services, archive_id: ArchiveId) -> ArchiveAnswer:
    """Give an archive."""
    row = await row_of(services, "archive", archive_id)
    if row is None:
        raise NotFound("Archive", archive_id)
    return await _shown(services, row)


async def _shown(services: Services, row: dict[str, Any]) -> ArchiveAnswer:
    state = await services.execute.archive(row["archive_id"])
    agent = await services.execute.agent(row["agent_id"])
    name = row["agent_id"] if agent.settings is None else agent.settings.name
    return ArchiveAnswer(
        id=row["archive_id"],
        agent_id=row["agent_id"],
        name=NAME,
        description=f"What agent {name!r} keeps outside its window.",
        passages=state.passages,
        tags=sorted(state.tags),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def insert_archive_passage(
    services: Services, archive_id: ArchiveId, body: InsertPassage
) -> PassageAnswer:
    """Put a text into an archive."""
    (passage,) = await inserted(services, owner_of(archive_id), [body])
    return passage


async def insert_archive_passages(
    services: Services, archive_id: ArchiveId, body: InsertPassages
) -> list[PassageAnswer]:
    """Put several texts into an archive."""
    return await inserted(services, owner_of(archive_id), body.passages)


async def delete_archive_passage(
    services: Services, archive_id: ArchiveId, passage_id: Label
) -> None:
    """Take a passage out of an archive; its history keeps it."""
    agent_id = owner_of(archive_id)
    await living_agent(services, agent_id)
    await services.archival.delete(agent_id, passage_id, by="user")


async def create_archive(services: Services) -> NoReturn:  # noqa: ARG001 - what endpoints are given
    """Make an archive that is nobody's: not in this version."""
    raise NotYet(f"archives: {OWN}; post it to /v1/agents/{{agent_id}}/archival-memory")


async def update_archive(services: Services, archive_id: ArchiveId) -> NoReturn:  # noqa: ARG001 - what endpoints are given
    """Rename an archive: not in this version."""
    raise NotYet(f"archives: {OWN}; it has no name to change")


async def delete_archive(services: Services, archive_id: ArchiveId) -> NoReturn:  # noqa: ARG001 - what endpoints are given
    """Put an end to an archive alone: not in this version."""
    raise NotYet(f"archives: {OWN} and ends with the agent; delete its passages")


async def attach_archive(
    services: Services,  # noqa: ARG001 - what endpoints are given
    agent_id: AgentId,  # noqa: ARG001 - what endpoints are given
    archive_id: ArchiveId,  # noqa: ARG001 - what endpoints are given
) -> NoReturn:
    """Share an archive: not in this version."""
    raise NotYet(f"archives: {OWN}, and shares it with none")


async def detach_archive(
    services: Services,  # noqa: ARG001 - what endpoints are given
    agent_id: AgentId,  # noqa: ARG001 - what endpoints are given
    archive_id: ArchiveId,  # noqa: ARG001 - what endpoints are given
) -> NoReturn:
    """Take an archive from an agent: not in this version."""
    raise NotYet(f"archives: {OWN}, and keeps it; delete its passages")


ROOT: Final = "/v1/archives/"
ONE: Final = "/v1/archives/{archive_id}"
PASSAGES: Final = f"{ONE}/passages"
OF_AGENT: Final = "/v1/agents/{agent_id}/archives"
TAG: Final = "archival"
ENDPOINTS: Final = [
    endpoint("GET", ROOT, list_archives, list[ArchiveAnswer], tag=TAG, errors=(404,)),
    endpoint("POST", ROOT, create_archive, None, tag=TAG, errors=(501,)),
    endpoint("GET", ONE, retrieve_archive, ArchiveAnswer, tag=TAG, errors=(404,)),
    endpoint("PATCH", ONE, update_archive, None, tag=TAG, errors=(501,)),
    endpoint("DELETE", ONE, delete_archive, None, tag=TAG, errors=(501,)),
    endpoint("POST", PASSAGES, insert_archive_passage, PassageAnswer, tag=TAG, errors=(404, 409)),
    endpoint(
        "POST",
        f"{PASSAGES}/batch",
        insert_archive_passages,
        list[PassageAnswer],
        tag=TAG,
        errors=(404, 409),
    ),
    endpoint(
        "DELETE",
        f"{PASSAGES}/{{passage_id}}",
        delete_archive_passage,
        None,
        tag=TAG,
        errors=(404,),
    ),
    endpoint(
        "PATCH", f"{OF_AGENT}/attach/{{archive_id}}", attach_archive, None, tag=TAG, errors=(501,)
    ),
    endpoint(
        "PATCH", f"{OF_AGENT}/detach/{{archive_id}}", detach_archive, None, tag=TAG, errors=(501,)
    ),
]
