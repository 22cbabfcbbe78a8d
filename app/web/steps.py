"""Steps: the model calls of all conversations, what came of each, and the request it was made with."""

from typing import Annotated, Any, Final, TypeAlias

import orjson
from pydantic import StringConstraints

from app.mapper import revive
from app.recall.rebuilding import Rebuilding, RebuiltRequest
from app.storage.store import VERSION_MAX, question_marks
from app.web.compaction_bodies import Audited
from app.web.endpoint import endpoint
from app.web.lookups import FoundRun, audited_stream
from app.web.message_bodies import AnyConversationId
from app.web.pages import page_of
from app.web.run_bodies import (
    CompletionTokens,
    ListAllSteps,
    ListStepMessages,
    PromptTokens,
    StepAnswer,
    StepMetricsAnswer,
)
from app.web.services import Services
from domain.conversation import IMPORT
from domain.errors import NotFound
from domain.event import Recorded
from domain.run import StepPart, Usage
from domain.streams import STEP, pattern_of
from projections.columns import Scalar, sortable
from projections.durations import times_of
from projections.listing import messages_of
from projections.patches import RETURN
from projections.wire import Message

StepId: TypeAlias = Annotated[str, StringConstraints(pattern=pattern_of(STEP))]
# A step with its run and its agent. The last step of a run came to what the run came to.
_SELECT: Final = (
    "SELECT steps.*, runs.stop_reason, runs.context_window, runs.finished_at, "
    "conversations.agent_id, EXISTS (SELECT 1 FROM steps AS later "
    "WHERE later.conversation_id = steps.conversation_id AND later.run_id = steps.run_id "
    "AND later.version > steps.version) AS has_later FROM steps "
    "JOIN runs ON runs.conversation_id = steps.conversation_id AND runs.run_id = steps.run_id "
    "JOIN conversations ON conversations.conversation_id = steps.conversation_id "
)
_LIVING: Final = "conversations.deleted = 0 AND runs.hidden = 0"


async def show_request(
    services: Services, conversation_id: AnyConversationId, step_id: StepId, query: Audited
) -> RebuiltRequest:
    """Give the exact request of a step, rebuilt from the log and checked by its hash."""
    stream = await audited_stream(services, conversation_id, query.agent_id, deleted=query.deleted)
    rebuilding = Rebuilding(services.log, services.windows, services.catalogue)
    return await rebuilding.rebuilt(stream, step_id)


# --- one step ---------------------------------------------------------------------------------


async def retrieve_step(services: Services, step_id: StepId) -> StepAnswer:
    """Give a step of any conversation."""
    return shown_step(await _found(services, step_id))


async def _found(services: Services, step_id: str) -> dict[str, Any]:
    where = (
        "JOIN locators ON locators.stream = steps.conversation_id "
        f"AND locators.version = steps.version WHERE locators.id = ? AND {_LIVING}"
    )
    rows = await services.log.query(_SELECT + where, (step_id,))
    if not rows:
        raise NotFound("Step", step_id)
    return rows[0]


async def list_step_messages(
    services: Services, step_id: StepId, query: ListStepMessages
) -> list[Message]:
    """List what a step said, and the returns of its calls; nothing if it was taken again."""
    facts = await _facts(services, await _found(services, step_id))
    groups = [items for _, items in messages_of(facts) if items[0]["step_id"] == step_id]
    if query.order == "desc":
        groups = [items[::-1] for items in reversed(groups)]
    ids = [items[0]["id"] for items in groups]
    return [item for items in page_of(groups, ids, query, "Message") for item in items]


async def _facts(services: Services, row: dict[str, Any]) -> list[Recorded[Any]]:
    """Read a step and what its calls came to, if need be after the end of its run."""
    stream, upto = row["conversation_id"], row["finished_at"] or VERSION_MAX
    facts = await _of_its_run(services, row)
    later = await _returns(services, stream, _calls_in(facts, row["version"]), upto)
    for version in later:
        rows = await services.log.read(stream, after=version - 1, upto=version, deltas=False)
        facts += map(revive, rows)
    return facts


async def _of_its_run(services: Services, row: dict[str, Any]) -> list[Recorded[Any]]:
    """Read from a step's beginning to the end of its run."""
    stream, upto = row["conversation_id"], row["finished_at"] or VERSION_MAX
    rows = await services.log.read(stream, after=row["version"] - 1, upto=upto, deltas=False)
    return [revive(one) for one in rows]


def _calls_in(facts: list[Recorded[Any]], s: int) -> list[str]:
    parts = [fact.event for fact in facts if isinstance(fact.event, StepPart)]
    return [part.call.id for part in parts if part.s == s and part.call is not None]


async def _returns(services: Services, stream: str, calls: list[str], after: int) -> list[int]:
    """Tell where after an offset the returns of calls are."""
    if not calls:
        return []
    ids: list[Scalar] = [f"{RETURN}{call}" for call in calls]
    rows = await services.log.query(
        "SELECT version FROM locators WHERE stream = ? AND version > ? "  # noqa: S608 - only question marks
        f"AND id IN ({question_marks(ids)}) ORDER BY version",
        (stream, after, *ids),
    )
    return [row["version"] for row in rows]


async def retrieve_metrics(services: Services, step_id: StepId) -> StepMetricsAnswer:
    """Tell how long a step took: its model, the server's tools that it called, and both."""
    row = await _found(services, step_id)
    if row["model"] == IMPORT:
        return StepMetricsAnswer(id=step_id, run_id=row["run_id"], agent_id=row["agent_id"])
    times = times_of(await _of_its_run(services, row), row["version"])
    return StepMetricsAnswer(
        id=step_id,
        run_id=row["run_id"],
        agent_id=row["agent_id"],
        step_start_ns=times.began_ns,
        step_ns=times.whole_ns,
        llm_request_start_ns=times.began_ns,  # recorded just before the model is called
        llm_request_ns=times.reply_ns,
        tool_execution_ns=times.tools_ns,
    )


# --- all steps --------------------------------------------------------------------------------


async def list_all_steps(services: Services, query: ListAllSteps) -> list[StepAnswer]:
    """List the model calls of all conversations; both cursors follow the sort order."""
    if query.wants_what_no_step_has:
        return []
    where, params = _filters(query)
    ascending = query.order == "asc"
    for cursor, forwards in ((query.after, True), (query.before, False)):
        if cursor is not None:
            bound, values = await _bound(services, cursor, later=ascending == forwards)
            where.append(bound)
            params += values
    # `before` alone gives the last ones before it, not the first of all: walking back misses none.
    backwards = query.before is not None and query.after is None
    way = "ASC" if ascending != backwards else "DESC"
    order = ", ".join(f"steps.{one} {way}" for one in ("created_at", "conversation_id", "version"))
    sql = f"{_SELECT}WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?"
    rows = await services.log.query(sql, (*params, query.limit))
    return [shown_step(row) for row in (rows[::-1] if backwards else rows)]


def _filters(query: ListAllSteps) -> tuple[list[str], list[Scalar]]:
    where, params = [_LIVING], list[Scalar]()

    def add(condition: str, *values: Scalar) -> None:
        where.append(condition)
        params.extend(values)

    if query.agent_id is not None:
        add("conversations.agent_id = ?", query.agent_id)
    if query.model is not None:
        # By its handle, or by its name alone.
        name = "substr(steps.model, instr(steps.model, '/') + 1)"
        add(f"(steps.model = ? OR {name} = ?)", query.model, query.model)
    if query.start_date is not None:
        add("steps.created_at >= ?", sortable(query.start_date))
    if query.end_date is not None:
        add("steps.created_at < ?", sortable(query.end_date))
    return where, params


async def _bound(services: Services, step_id: str, *, later: bool) -> tuple[str, list[Scalar]]:
    rows = await services.log.query(
        "SELECT steps.* FROM locators JOIN steps ON steps.conversation_id = locators.stream "
        "AND steps.version = locators.version WHERE locators.id = ?",
        (step_id,),
    )
    if not rows or rows[0]["step_id"] != step_id:
        raise NotFound("Step", step_id)
    place = [rows[0][name] for name in ("created_at", "conversation_id", "version")]
    sign = ">" if later else "<"
    return f"(steps.created_at, steps.conversation_id, steps.version) {sign} (?, ?, ?)", place


# --- as clients see them ----------------------------------------------------------------------


async def steps_of_run(services: Services, run: FoundRun) -> list[dict[str, Any]]:
    """Give the rows of a run's steps, in order."""
    where = "WHERE steps.conversation_id = ? AND steps.run_id = ? ORDER BY steps.version"
    return await services.log.query(_SELECT + where, (run.conversation_id, run.run_id))


def usage_in(row: dict[str, Any]) -> Usage:
    """Give the tokens of a step, none if its vendor has told none."""
    return Usage() if row["usage"] is None else Usage.model_validate_json(row["usage"])


def shown_step(row: dict[str, Any]) -> StepAnswer:
    """Give a step as clients see it."""
    provider, _, name = row["model"].partition("/")
    usage = usage_in(row)
    error = None if row["error"] is None else orjson.loads(row["error"])
    return StepAnswer(
        id=row["step_id"],
        run_id=row["run_id"],
        agent_id=row["agent_id"],
        status=row["status"],
        stop_reason=None if row["has_later"] else row["stop_reason"],
        model=name or provider,
        model_handle=row["model"],
        provider_name=provider,
        provider_category="base",
        context_window_limit=row["context_window"],
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        error_type=None if error is None else error["error_type"],
        error_data=error,
        index=row["position"],
        attempt=row["attempt"],
        offset=row["version"],
        created_at=row["created_at"],
        **usage_fields(usage),
    )


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Spell tokens as the original did."""
    read, written = usage.cached_input_tokens, usage.cache_write_tokens
    cached = read is not None or written is not None
    thought = usage.reasoning_tokens
    return {
        "completion_tokens": usage.output_tokens,
        "prompt_tokens": usage.input_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": PromptTokens(
            cached_tokens=read, cache_read_tokens=read, cache_creation_tokens=written
        )
        if cached
        else None,
        "completion_tokens_details": None
        if thought is None
        else CompletionTokens(reasoning_tokens=thought),
    }


ONE: Final = "/v1/steps/{step_id}"
ENDPOINTS: Final = [
    endpoint(
        "GET",
        "/v1/conversations/{conversation_id}/steps/{step_id}/request",
        show_request,
        RebuiltRequest,
        tag="history",
        errors=(404,),
    ),
    endpoint("GET", "/v1/steps/", list_all_steps, list[StepAnswer], tag="runs", errors=(404,)),
    endpoint("GET", ONE, retrieve_step, StepAnswer, tag="runs", errors=(404,)),
    endpoint(
        "GET", f"{ONE}/metrics", retrieve_metrics, StepMetricsAnswer, tag="runs", errors=(404,)
    ),
    endpoint(
        "GET", f"{ONE}/messages", list_step_messages, list[Message], tag="runs", errors=(404,)
    ),
]
