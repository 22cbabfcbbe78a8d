"""Agents as files: taken out, and brought in from here or from another server."""

import asyncio
import logging
from dataclasses import asdict
from typing import Any, Final
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from app.agent_files.exporting import AgentExporter, Scope, TooMany
from app.agent_files.importing import AgentImporter, Planned, planned
from app.agent_files.settings import Conversion, NoModel, Wishes
from app.log import utc_now
from app.web.agent_answers import living_agent
from app.web.agent_file_bodies import (
    ExportAgent,
    ImportAgents,
    ImportedAgentAnswer,
    ImportedAgentsAnswer,
)
from app.web.endpoint import AgentId, endpoint, parsed
from app.web.errors import ApiError, Invalid, NotYet
from app.web.lookups import living_conversation
from app.web.requests import KEY_HEADER, checked_key
from app.web.services import Services
from domain.streams import default_conversation
from projections.agent_file import AgentFile, BadFile, agent_file
from projections.agent_file_parts import LeftOut
from projections.agent_file_writing import TooLong

EMBEDDING_HEADER: Final = "x-override-embedding-model"
DEFAULT: Final = "default"
_OBJECT: Final[TypeAdapter[dict[str, Any]]] = TypeAdapter(dict[str, Any])
logger = logging.getLogger(__name__)


async def export_agent(services: Services, agent_id: AgentId, query: ExportAgent) -> Response:
    """Give an agent as a file: its settings, blocks, conversations and archive, tools by name."""
    if query.use_legacy_format:
        raise NotYet("use_legacy_format: files are written in the newer form only; leave it out")
    state = await living_agent(services, agent_id)
    scope = Scope(await _conversation(services, agent_id, query), not query.scrub_messages)
    exporter = AgentExporter(
        services.log,
        services.execute,
        services.catalogue,
        services.toolbox,
        services.archival,
    )
    try:
        file = await exporter.file_of(agent_id, state, scope, utc_now())
    except (TooLong, TooMany) as error:
        raise ApiError(422, f"{error} `everlog export` takes out any number of them.") from error
    return Response(file, media_type="application/json")


async def _conversation(services: Services, agent_id: str, query: ExportAgent) -> str | None:
    """Give the one conversation that is wanted. Raises 404 for one that is not the agent's."""
    wanted = query.conversation_id
    if wanted is None:
        return None
    if wanted == DEFAULT:
        return default_conversation(agent_id)
    state = await living_conversation(services, wanted)
    if state.agent_id != agent_id:
        raise ApiError(404, f"{wanted} is no conversation of {agent_id}")
    return wanted


async def import_agents(
    services: Services, body: ImportAgents, request: Request
) -> ImportedAgentsAnswer:
    """Make the agents of a file, with all that was said to them; all of it, or nothing.

    An Idempotency-Key names the import: sent again, it makes no second agent.
    """
    left_out = LeftOut()
    _check_secrets(body, left_out)
    key = request.headers.get(KEY_HEADER)
    salt = f"import/{uuid4() if key is None else checked_key(key)}"
    try:
        file = await asyncio.to_thread(_file, body.file)
        wishes = _wishes(body, request, len(file.agents))
        plan = await _planned(services, file, wishes, salt, left_out)
    except BadFile as error:
        raise Invalid(f"file: {error}") from error
    except NoModel as error:
        raise ApiError(404, f"NOT_FOUND: {error}") from error
    importer = AgentImporter(
        services.log,
        services.execute,
        services.windows,
        services.settings.sliding_window_percentage,
    )
    taken = await importer.write(plan)
    # Places, kinds and names of tools; nothing that was said, and no secret.
    logger.info("imported %s; left out: %s", [one.agent_id for one in taken], left_out.told)
    return ImportedAgentsAnswer(
        agent_ids=[one.agent_id for one in taken],
        imported=[ImportedAgentAnswer(**asdict(one)) for one in taken],
        left_out=left_out.told,
    )


def _file(raw: bytes) -> AgentFile:
    """Parse and check a file. Takes its time. Raises BadFile."""
    try:
        value = parsed(raw)
    except Invalid as error:
        raise BadFile("file", str(error)) from error
    return agent_file(value)


async def _planned(
    services: Services, file: AgentFile, wishes: Wishes, salt: str, left_out: LeftOut
) -> Planned:
    percentage = services.settings.sliding_window_percentage
    conversion = Conversion(
        file, wishes, services.catalogue, services.toolbox, percentage, left_out
    )
    return await asyncio.to_thread(planned, file, conversion, salt)


def _wishes(body: ImportAgents, request: Request, agents: int) -> Wishes:
    name = body.name or body.override_name
    if name is not None and agents > 1:
        raise Invalid(f"name: the file has {agents} agents; leave it out")
    older = body.override_embedding_handle or request.headers.get(EMBEDDING_HEADER)
    return Wishes(
        name=name,
        copy_suffix=body.append_copy_suffix,
        model=body.model or body.override_model_handle,
        embedding=body.embedding or older,
        strip_messages=body.strip_messages,
    )


def _check_secrets(body: ImportAgents, left_out: LeftOut) -> None:
    for name in ("secrets", "env_vars_json"):
        text = getattr(body, name)
        if text is None:
            continue
        try:
            found = _OBJECT.validate_json(text)
        except ValidationError as error:
            raise Invalid(f"{name}: must be a JSON object") from error
        if found:
            left_out.add(name, "left out: no tool here reads them")


ENDPOINTS: Final = [
    endpoint(
        "GET",
        "/v1/agents/{agent_id}/export",
        export_agent,
        dict[str, Any],
        tag="agents",
        errors=(404, 501),
    ),
    endpoint(
        "POST",
        "/v1/agents/import",
        import_agents,
        ImportedAgentsAnswer,
        tag="agents",
        errors=(404, 409),
        form=True,
    ),
]
