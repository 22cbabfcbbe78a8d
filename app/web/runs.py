"""Runs: list, retrieve, their messages, their streams."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from app.mapper import revive, stamp_of
from app.storage.store import VERSION_MAX, question_marks
from app.web.endpoint import RunId, checked_run_id, endpoint
from app.web.errors import ApiError
from app.web.lookups import RUNS, FoundRun, found_run
from app.web.message_bodies import ResumeStream
from app.web.messages import stream_of
from app.web.pages import page_of
from app.web.run_bodies import (
    ListRunMessages,
    ListRuns,
    ListSteps,
    RequestConfig,
    RunAnswer,
    StepAnswer,
    UsageAnswer,
)
from app.web.services import Services
from app.web.steps import shown_step, steps_of_run, usage_fields, usage_in
from app.web.stream import SSE_TYPE, EventStream
from domain.conversation import HideRun, Stretch
from domain.errors import NotFound
from domain.event import Recorded
from domain.run import RunRequest, RunUsage, total_of
from domain.sleeptime import conversation_doing
from domain.streams import is_default
from projections.answer import messages_of_run
from projections.columns import Scalar
from projections.durations import nanoseconds
from projections.letta import only
from projections.wire import Message

STATUSES: Final = ("created", "running", "completed", "failed", "cancelled")
ACTIVE: Final = ("created", "running")
# Facts in which a model says something.
WORDS: Final = ("step.delta", "step.part")
# The run type, in the words of the original, of what no request led to.
CONSOLIDATION: Final = "sleeptime_agent_send_message_async"


async def retrieve_run(services: Services, run_id: RunId) -> RunAnswer:
    """Give a run."""
    return await shown_run(services, run_id)


async def shown_run(services: Services, run_id: str) -> RunAnswer:
    """Give a run as clients see it. Raises 404."""
    (shown,) = await _shown(services, [(await found_run(services, run_id)).row])
    return shown


async def _shown(services: Services, rows: Sequence[dict[str, Any]]) -> list[RunAnswer]:
    """Give the runs of rows as clients see them; the log is asked once when they first spoke."""
    spoke = await _first_words(services, rows)
    return [_answer(row, spoke.get(row["run_id"])) for row in rows]


async def _first_words(services: Services, rows: Sequence[dict[str, Any]]) -> dict[str, datetime]:
    """Tell when a model first said something in each run: what anybody could read from then on.

    No read table knows, as deltas write none; the log has it just behind the run's first step.
    """
    called = [row for row in rows if row["called_at"] is not None]
    stretches = [
        Stretch(row["conversation_id"], row["called_at"], row["finished_at"] or VERSION_MAX)
        for row in called
    ]
    log = services.log
    found = await log.in_reader(lambda: log.store.each(stretches, topics=WORDS, limit=1))
    return {
        row["run_id"]: stamp_of(said[0]) for row, said in zip(called, found, strict=True) if said
    }


def _answer(row: dict[str, Any], spoke_at: datetime | None) -> RunAnswer:
    request = RunRequest.model_validate_json(row["request"])
    created, completed = row["created_at"], row["completed_at"]
    return RunAnswer(
        id=row["run_id"],
        agent_id=row["agent_id"],
        conversation_id=_conversation_id(row),
        status=row["status"],
        stop_reason=row["stop_reason"],
        background=request.background,
        created_at=created,
        completed_at=completed,
        metadata=_metadata(row, request),
        request_config=RequestConfig(include_return_message_types=request.filters),
        callback_url=request.callback,
        callback_sent_at=row["callback_sent_at"],
        callback_status_code=row["callback_status_code"],
        callback_error=row["callback_error"],
        ttft_ns=_between(created, spoke_at),
        total_duration_ns=_between(created, completed),
    )


def _conversation_id(row: dict[str, Any]) -> str | None:
    own = is_default(row["conversation_id"], row["agent_id"])
    return None if own else row["conversation_id"]


def _metadata(row: dict[str, Any], request: RunRequest) -> dict[str, Any]:
    consolidates = row["conversation_id"] == conversation_doing(row["run_id"])
    metadata: dict[str, Any] = {"run_type": CONSOLIDATION if consolidates else request.run_type}
    if row["error"] is not None:
        metadata["error"] = orjson.loads(row["error"])
    return metadata


def _between(start: str, end: str | datetime | None) -> int | None:
    """Give the time between two facts of a stream: it is not below 0, as their times never are."""
    if end is None:
        return None
    if isinstance(end, str):
        end = datetime.fromisoformat(end)
    return nanoseconds(end - datetime.fromisoformat(start))


async def list_runs(services: Services, query: ListRuns) -> list[RunAnswer]:
    """List runs; both cursors follow the sort order."""
    where, params = _filters(query)
    ascending = query.order == "asc" if query.ascending is None else query.ascending
    for cursor, forwards in ((query.after, True), (query.before, False)):
        if cursor is not None:
            bound, values = await _bound(services, cursor, later=ascending == forwards)
            where.append(bound)
            params += values
    # `before` alone gives the last ones before it, not the first of all: walking back misses none.
    backwards = query.before is not None and query.after is None
    way = "ASC" if ascending != backwards else "DESC"
    sql = (
        f"{RUNS}WHERE {' AND '.join(where)} "
        f"ORDER BY runs.created_at {way}, runs.run_id {way} LIMIT ?"
    )
    rows = await services.log.query(sql, (*params, query.limit))
    return await _shown(services, rows[::-1] if backwards else rows)


async def list_active_runs(services: Services, query: ListRuns) -> list[RunAnswer]:
    """List the runs that are not over: what `active` of the other list says."""
    return await list_runs(services, query.model_copy(update={"active": True}))


def _filters(query: ListRuns) -> tuple[list[str], list[Scalar]]:
    where, params = ["conversations.deleted = 0", "runs.hidden = 0"], list[Scalar]()

    def among(column: str, values: list[str]) -> None:
        where.append(f"{column} IN ({question_marks(values)})")
        params.extend(values)

    agents = query.agent_ids or ([query.agent_id] if query.agent_id else [])
    if agents:
        among("conversations.agent_id", agents)
    if query.conversation_id:
        among("runs.conversation_id", [query.conversation_id])
    if statuses := _statuses(query):
        among("runs.status", statuses)
    if query.stop_reason:
        among("runs.stop_reason", [query.stop_reason])
    if query.background is not None:
        where.append("runs.background = ?")
        params.append(int(query.background))
    return where, params


def _statuses(query: ListRuns) -> list[str]:
    wrong = [one for one in query.statuses or [] if one not in STATUSES]
    if wrong:
        raise ApiError(400, f"Invalid run status {wrong[0][:64]!r}; one of {', '.join(STATUSES)}.")
    return query.statuses or (list(ACTIVE) if query.active else [])


async def _bound(services: Services, run_id: str, *, later: bool) -> tuple[str, list[Scalar]]:
    checked_run_id(run_id)
    sql = "SELECT created_at FROM runs WHERE run_id = ?"
    rows = await services.log.query(sql, (run_id,))
    if not rows:
        raise NotFound("Run", run_id)
    sign, at = ">" if later else "<", rows[0]["created_at"]
    bound = f"(runs.created_at {sign} ? OR (runs.created_at = ? AND runs.run_id {sign} ?))"
    return bound, [at, at, run_id]


async def list_run_messages(
    services: Services, run_id: RunId, query: ListRunMessages
) -> list[Message]:
    """List what was sent in and what came out of a run, of the types that it was asked for."""
    run = await found_run(services, run_id)
    groups = _within(messages_of_run(await _facts(services, run), run.run_id), query)
    request = RunRequest.model_validate_json(run.row["request"])
    if query.order == "desc":
        groups = [list(reversed(items)) for items in reversed(groups)]
    elif query.before is not None and query.after is None:
        groups = groups[max(0, len(groups) - query.limit) :]
    return only([item for items in groups[: query.limit] for item in items], request.filters)


async def _facts(services: Services, run: FoundRun) -> list[Recorded[Any]]:
    rows = await services.log.read(
        run.conversation_id,
        after=run.queued_at - 1,
        upto=run.finished_at or VERSION_MAX,
        deltas=False,
    )
    return [revive(row) for row in rows]


def _within(groups: list[list[Message]], query: ListRunMessages) -> list[list[Message]]:
    """Cut at the cursors; going `desc`, `after` the last item seen is older, too."""
    after, before = query.after, query.before
    if query.order == "desc" and after is not None and before is None:
        after, before = None, after
    ids = [items[0]["id"] for items in groups]
    for cursor in (after, before):
        if cursor is not None and cursor not in ids:
            raise ApiError(404, f"Message not found with id={cursor}")
    start = 0 if after is None else ids.index(after) + 1
    return groups[start : len(ids) if before is None else ids.index(before)]


async def stream_run(services: Services, run_id: RunId, body: ResumeStream) -> EventStream:
    """Show a run's frames after an offset, and follow it: any run, live or long over."""
    return await stream_of(services, await found_run(services, run_id), body)


# --- usage and steps --------------------------------------------------------------------------


async def retrieve_usage(services: Services, run_id: RunId) -> UsageAnswer:
    """Give the tokens of a run so far."""
    run = await found_run(services, run_id)
    if run.row["usage"] is not None:
        return UsageAnswer(**usage_fields(RunUsage.model_validate_json(run.row["usage"])))
    total = RunUsage()
    for row in await steps_of_run(services, run):
        total = total_of(total, usage_in(row))
    return UsageAnswer(**usage_fields(total))


async def list_steps(services: Services, run_id: RunId, query: ListSteps) -> list[StepAnswer]:
    """List the model calls of a run, those that were taken again included."""
    run = await found_run(services, run_id)
    shown = [shown_step(row) for row in await steps_of_run(services, run)]
    if query.order == "desc":
        shown.reverse()
    return page_of(shown, [one.id for one in shown], query, "Step")


async def delete_run(services: Services, run_id: RunId) -> None:
    """Take a run that is over out of lists and lookups; its facts and messages stay."""
    run = await found_run(services, run_id)
    await services.execute(run.conversation_id, HideRun(run.run_id), "user")


ONE: Final = "/v1/runs/{run_id}"
ENDPOINTS: Final = [
    endpoint("GET", "/v1/runs/", list_runs, list[RunAnswer], tag="runs", errors=(400, 404)),
    endpoint(
        "GET", "/v1/runs/active", list_active_runs, list[RunAnswer], tag="runs", errors=(400, 404)
    ),
    endpoint("GET", ONE, retrieve_run, RunAnswer, tag="runs", errors=(400, 404)),
    endpoint(
        "GET", f"{ONE}/messages", list_run_messages, list[Message], tag="runs", errors=(400, 404)
    ),
    endpoint("GET", f"{ONE}/usage", retrieve_usage, UsageAnswer, tag="runs", errors=(400, 404)),
    endpoint("GET", f"{ONE}/steps", list_steps, list[StepAnswer], tag="runs", errors=(400, 404)),
    endpoint("DELETE", ONE, delete_run, None, tag="runs", errors=(400, 404, 409)),
    endpoint(
        "POST",
        f"{ONE}/stream",
        stream_run,
        str,
        tag="runs",
        errors=(400, 404, 409),
        media_types=(SSE_TYPE,),
    ),
]
