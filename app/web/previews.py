"""What a compaction would do, as it is shown."""

from typing import Any

from app.compaction.compacting import Failed, Task, Worked
from app.web.compaction_bodies import PreviewAnswer
from projections.compaction import NoPlan, Plan
from projections.shown_window import shown
from projections.sizes import tokens_of


def preview_of(task: Task, found: Worked | Failed | Plan | NoPlan) -> PreviewAnswer:
    """Show a plan, with its summary if there is one, or why there is none."""
    match found:
        case Worked():
            return _preview(task, found.plan, **_summary_of(found))
        case Plan():
            return _preview(task, found, tokens_after=found.scaled(found.size_kept))
        case NoPlan():
            why = {"reason": found.failure, "detail": found.words}
            return _preview(task, None, goal=found.goal, tries=list(found.tries), **why)
        case Failed():
            why = {"reason": found.reason, "detail": found.detail}
            return _preview(task, None, attempts=list(found.attempts), **why)


def _summary_of(worked: Worked) -> dict[str, Any]:
    return {
        "settings": worked.settings,
        "tokens_after": worked.tokens_after,
        "summary": worked.summary,
        "model": worked.model,
        "retention": worked.retention,
        "attempts": list(worked.attempts),
    }


def _preview(task: Task, plan: Plan | None, **more: Any) -> PreviewAnswer:
    """Show what every preview has."""
    planned: dict[str, Any] = {} if plan is None else _plan_of(task, plan)
    known: dict[str, Any] = {
        "at": task.window.at,
        "settings": task.settings,
        "context_window": task.context_window,
        "tokens_before": tokens_of(task.window).total,
        "messages_before": 1 + len(task.window.items),
    }
    return PreviewAnswer(**{**known, **planned, **more})


def _plan_of(task: Task, plan: Plan) -> dict[str, Any]:
    leaving = {item.offset for item in plan.evicted}
    places = [item.offset for item in task.window.items]
    messages = shown(task.window).messages
    return {
        "mode": plan.mode,
        "goal": plan.goal,
        "tries": list(plan.tries),
        "evicted": [one for one, at in zip(messages, places, strict=True) if at in leaving],
        "kept": [at for at in places if at not in leaving],
        "cutoff": plan.cutoff,
        "messages_after": plan.messages_after,
    }
