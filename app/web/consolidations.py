"""Consolidations of memory: ask for one, see what it came to, accept what it proposes or not."""

from typing import Annotated, Any, Final, TypeAlias
from uuid import uuid4

from pydantic import StringConstraints
from starlette.requests import Request

from app.mapper import revive
from app.memory.versions import block_at
from app.web.agent_answers import living_agent
from app.web.blocks import carry_out
from app.web.consolidation_bodies import (
    AcceptBody,
    ConsolidateBody,
    ConsolidationAnswer,
    ListConsolidations,
)
from app.web.endpoint import AgentId, endpoint
from app.web.errors import NO_RETRY, ApiError
from app.web.lookups import DEFAULT, conversation_at
from app.web.requests import KEY_HEADER, checked_key
from app.web.services import Services
from app.web.stream import checked_cursor
from domain.block import ChangeBlock
from domain.conversation import (
    ConsolidationFinished,
    ConsolidationQueued,
    Conversation,
    QueueConsolidation,
    SettleProposal,
)
from domain.errors import KeyReused, NotFound
from domain.sleeptime import Sleeptime
from domain.streams import CONSOLIDATION, derived_id, id_of, pattern_of
from projections.columns import Scalar
from projections.diff import unified

ConsolidationId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(CONSOLIDATION))]
NOTHING: Final = "Nothing was said in this conversation since it was consolidated last."


async def consolidate_agent(
    services: Services, agent_id: AgentId, body: ConsolidateBody | None, request: Request
) -> ConsolidationAnswer:
    """Have what was said in a conversation worked into its agent's memory, by a run of its own.

    An Idempotency-Key names the consolidation, so that the same one is done once. Its run is queued
    when it is its turn: those of one agent are done one after the other.
    """
    asked = body or ConsolidateBody()
    agent = await living_agent(services, agent_id)
    if asked.model is not None:
        services.catalogue.resolve(asked.model)
    stream, state = await _source(services, agent_id, asked.conversation_id)
    key = request.headers.get(KEY_HEADER)
    name = None if key is None else f"{stream}/consolidation/{checked_key(key)}"
    consolidation_id = (
        id_of(CONSOLIDATION, uuid4()) if name is None else derived_id(CONSOLIDATION, name)
    )
    known = await _row(services, agent_id, consolidation_id)
    if known is not None:
        _check_same(asked, await _fact(services, known, known["queued_at"]))
        return await _shown(services, known)
    await _check_material(services, stream, state, asked.since)
    terms = _terms(None if agent.settings is None else agent.settings.sleeptime, asked)
    command = QueueConsolidation(consolidation_id, terms, asked.since)
    await services.execute(stream, command, "user")
    await services.consolidating.advance(stream)
    return await _answer(services, agent_id, consolidation_id)


def _check_same(asked: ConsolidateBody, known: ConsolidationQueued) -> None:
    """Check that a key stands for the request that it stood for before. Raises KeyReused."""
    was = {**known.terms.model_dump(), "since": known.after}
    sent = asked.model_dump(exclude={"conversation_id"}, exclude_none=True)
    if any(was[name] != value for name, value in sent.items()):
        raise KeyReused("Idempotency-Key", known.run_id)


async def _source(
    services: Services, agent_id: str, conversation_id: str | None
) -> tuple[str, Conversation]:
    """Give the conversation to go through. Raises NotFound for one that is not the agent's."""
    wanted = conversation_id or DEFAULT
    stream, state = await conversation_at(services, wanted, agent_id)
    if state.agent_id != agent_id:
        raise NotFound("Conversation", wanted)
    return stream, state


async def _check_material(
    services: Services, stream: str, state: Conversation, since: int | None
) -> None:
    """Refuse to go through nothing. Raises 409 for an offset past the end, 400."""
    if since is not None:
        await checked_cursor(services, stream, since)
    after = state.memory.upto if since is None else since
    if state.memory.under_way is None:
        found = await services.consolidating.stretch(stream, after, state.version)
        if not found.lines:
            raise ApiError(400, NOTHING)


def _terms(own: Sleeptime | None, asked: ConsolidateBody) -> Sleeptime:
    """Merge what is asked for over what the agent has."""
    sent = asked.model_dump(exclude={"conversation_id", "since"}, exclude_none=True)
    return (own or Sleeptime()).model_copy(update=sent)


# --- what there was ---------------------------------------------------------------------------


_COLUMNS: Final = (
    "SELECT consolidations.*, conversations.agent_id FROM consolidations "
    "JOIN conversations ON conversations.conversation_id = consolidations.conversation_id "
    "WHERE conversations.agent_id = ?"
)


async def list_consolidations(
    services: Services, agent_id: AgentId, query: ListConsolidations
) -> list[ConsolidationAnswer]:
    """List an agent's consolidations, those under way among them."""
    await living_agent(services, agent_id)
    where, params = await _filters(services, agent_id, query)
    ascending = query.order == "asc"
    for cursor, forwards in ((query.after, True), (query.before, False)):
        if cursor is not None:
            bound, values = await _bound(services, agent_id, cursor, later=ascending == forwards)
            where.append(bound)
            params += values
    # `before` alone gives the last ones before it: walking back misses none.
    backwards = query.before is not None and query.after is None
    way = "ASC" if ascending != backwards else "DESC"
    conditions = "".join(f" AND {one}" for one in where)
    sql = (
        f"{_COLUMNS}{conditions} ORDER BY consolidations.created_at {way}, "
        f"consolidations.consolidation_id {way} LIMIT ?"
    )
    rows = await services.log.query(sql, (agent_id, *params, query.limit))
    return [await _shown(services, row) for row in (rows[::-1] if backwards else rows)]


async def _filters(
    services: Services, agent_id: str, query: ListConsolidations
) -> tuple[list[str], list[Scalar]]:
    where, params = list[str](), list[Scalar]()
    if query.conversation_id is not None:
        stream, _ = await _source(services, agent_id, query.conversation_id)
        where.append("consolidations.conversation_id = ?")
        params.append(stream)
    if query.status is not None:
        where.append("consolidations.status = ?")
        params.append(query.status)
    return where, params


async def _bound(
    services: Services, agent_id: str, cursor: str, *, later: bool
) -> tuple[str, list[Scalar]]:
    row = await _row(services, agent_id, cursor)
    if row is None:
        raise NotFound("Consolidation", cursor)
    sign, at = ">" if later else "<", row["created_at"]
    bound = (
        f"(consolidations.created_at {sign} ? OR (consolidations.created_at = ? "
        f"AND consolidations.consolidation_id {sign} ?))"
    )
    return bound, [at, at, cursor]


async def show_consolidation(
    services: Services, agent_id: AgentId, consolidation_id: ConsolidationId
) -> ConsolidationAnswer:
    """Give a consolidation: what it stored, what it changed or proposes to change."""
    await living_agent(services, agent_id)
    return await _answer(services, agent_id, consolidation_id)


async def _answer(services: Services, agent_id: str, consolidation_id: str) -> ConsolidationAnswer:
    row = await _row(services, agent_id, consolidation_id)
    if row is None:
        raise NotFound("Consolidation", consolidation_id)
    return await _shown(services, row)


async def _row(services: Services, agent_id: str, consolidation_id: str) -> dict[str, Any] | None:
    sql = f"{_COLUMNS} AND consolidations.consolidation_id = ?"
    rows = await services.log.query(sql, (agent_id, consolidation_id))
    return rows[0] if rows else None


async def _shown(services: Services, row: dict[str, Any]) -> ConsolidationAnswer:
    queued: ConsolidationQueued = await _fact(services, row, row["queued_at"])
    answer = ConsolidationAnswer(
        consolidation_id=row["consolidation_id"],
        agent_id=row["agent_id"],
        source=row["conversation_id"],
        run_id=queued.run_id,
        conversation_id=queued.conversation_id,
        status=row["status"],
        trigger=queued.trigger,
        after=queued.after,
        queued_at=row["queued_at"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
    )
    if row["finished_at"] is None:
        return answer
    ended: ConsolidationFinished = await _fact(services, row, row["finished_at"])
    shown = ended.model_dump(exclude={"type", "consolidation_id", "outcome", "cause"})
    if row["settled_at"] is not None:
        shown["version"] = (await _fact(services, row, row["settled_at"])).version
    return answer.model_copy(update={**shown, "diff": await _diff(services, ended)})


async def _fact(services: Services, row: dict[str, Any], offset: int) -> Any:
    (found,) = await services.log.read(row["conversation_id"], after=offset - 1, upto=offset)
    return revive(found).event


async def _diff(services: Services, ended: ConsolidationFinished) -> str | None:
    """Compare what a block is to be with what it was when it was shown to the model."""
    if ended.value is None or ended.block_id is None or ended.base_version is None:
        return None
    store, block_id, version = services.log.store, ended.block_id, ended.base_version
    base = (await services.log.in_reader(lambda: block_at(store, block_id, version))).settings
    return unified("" if base is None else base.value, ended.value)


# --- proposals --------------------------------------------------------------------------------


async def accept_consolidation(
    services: Services,
    agent_id: AgentId,
    consolidation_id: ConsolidationId,
    body: AcceptBody | None,
) -> ConsolidationAnswer:
    """Make a block what a consolidation proposed; 409 if the block has changed since."""
    source, proposal = await _proposal(services, agent_id, consolidation_id)
    sent = None if body is None else body.base_version
    base = proposal.base_version if sent is None else sent
    block_id = proposal.block_id or ""
    change = ChangeBlock({"value": proposal.value}, base, proposal.cause)
    await carry_out(services, block_id, change)
    version = await services.consolidating.version_of(proposal)
    if version is None:  # the block says just that already, by somebody else's word
        version = (await services.execute.block(block_id)).version
    await services.consolidating.make_known(source)
    command = SettleProposal(consolidation_id, accepted=True, version=version)
    await services.execute(source, command, "user")
    return await _answer(services, agent_id, consolidation_id)


async def reject_consolidation(
    services: Services, agent_id: AgentId, consolidation_id: ConsolidationId
) -> ConsolidationAnswer:
    """Turn down what a consolidation proposed; the block stays as it is."""
    source, proposal = await _proposal(services, agent_id, consolidation_id)
    version = await services.consolidating.version_of(proposal)
    if version is not None:
        # It was being accepted when the server stopped.
        words = (
            f"CONFLICT: {consolidation_id} is in the block since its version {version}; accept it."
        )
        raise ApiError(409, words, headers=NO_RETRY)
    await services.execute(source, SettleProposal(consolidation_id, accepted=False), "user")
    return await _answer(services, agent_id, consolidation_id)


async def _proposal(
    services: Services, agent_id: str, consolidation_id: str
) -> tuple[str, ConsolidationFinished]:
    """Give a proposal that waits, and its conversation. Raises NotFound; 409 if none waits."""
    await living_agent(services, agent_id)
    row = await _row(services, agent_id, consolidation_id)
    if row is None:
        raise NotFound("Consolidation", consolidation_id)
    state = await services.execute.conversation(row["conversation_id"])
    found = state.memory.proposals.get(consolidation_id)
    if found is None:
        status = "superseded by a newer one" if row["status"] == "proposed" else row["status"]
        words = f"CONFLICT: {consolidation_id} has no proposal that waits: it is {status}."
        raise ApiError(409, words, headers=NO_RETRY)
    return row["conversation_id"], found


AGENT: Final = "/v1/agents/{agent_id}"
MANY: Final = f"{AGENT}/consolidations"
ONE: Final = f"{MANY}/{{consolidation_id}}"
ENDPOINTS: Final = [
    endpoint(
        "POST",
        f"{AGENT}/consolidate",
        consolidate_agent,
        ConsolidationAnswer,
        tag="memory",
        errors=(400, 404, 409),
    ),
    endpoint(
        "GET", MANY, list_consolidations, list[ConsolidationAnswer], tag="memory", errors=(404,)
    ),
    endpoint("GET", ONE, show_consolidation, ConsolidationAnswer, tag="memory", errors=(404,)),
    endpoint(
        "POST",
        f"{ONE}/accept",
        accept_consolidation,
        ConsolidationAnswer,
        tag="memory",
        errors=(404, 409),
    ),
    endpoint(
        "POST",
        f"{ONE}/reject",
        reject_consolidation,
        ConsolidationAnswer,
        tag="memory",
        errors=(404, 409),
    ),
]
