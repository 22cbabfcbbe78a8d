"""Works out what a compaction would come to: a plan, a summary, what of it is kept. Records nothing.

Modes are tried in the order of the contract (section 8.3) until one gives a summary that does no
harm: not empty, not refused, not longer than what it stands for, and rich enough if that is asked.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from app.compaction.summariser import Own, Said, Summariser, SummaryFailed
from app.log import utc_now
from domain.compaction import CompactionMode, CompactionSettings, CompactionTrigger
from domain.content import Text
from domain.conversation import Attempt, CompactionFailure
from domain.retention import Retention
from domain.run import crowded_above
from projections.compaction import SLIDING, NoPlan, Plan, plan_of
from projections.cuts import Bonds
from projections.items import Item, MessageItem, ReturnItem, StepItem, SummaryItem
from projections.prompts import PROMPTS
from projections.retention import retention_of
from projections.sizes import size_of
from projections.tokens import estimate
from projections.window import Window

FALLBACKS: Final[dict[CompactionMode, tuple[CompactionMode, ...]]] = {
    "all": ("all",),
    "sliding_window": ("sliding_window", "all"),
    "self_compact_all": ("self_compact_all", "self_compact_sliding_window", "all"),
    "self_compact_sliding_window": ("self_compact_sliding_window", "all"),
}
# A summary this short (in tokens) is never too long, whatever it stands for.
SHORT: Final = 200
# No estimate is twice what a vendor counts (`python -m benchmarks.estimating`).
HOPELESS: Final = 2
CLIPPED: Final = "... [summary truncated to fit]"


@dataclass(frozen=True, slots=True)
class Task:
    """A window that is to be made smaller; `own` is the model that it is for."""

    window: Window
    bonds: Bonds
    settings: CompactionSettings
    trigger: CompactionTrigger
    context_window: int
    own: Own

    @property
    def automatic(self) -> bool:
        """Whether no person has asked for it."""
        return self.trigger != "manual"


@dataclass(frozen=True, slots=True)
class Worked:
    """A compaction that could be recorded.

    `tokens_after` is in proportion to what the vendor reported before, unless it was `counted`.
    """

    plan: Plan
    settings: CompactionSettings
    model: str
    summary: str
    retention: Retention
    attempts: tuple[Attempt, ...]
    tokens_after: int
    system_tokens: int
    counted: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A compaction that came to nothing, for the reason of its last attempt."""

    reason: CompactionFailure
    detail: str | None
    attempts: tuple[Attempt, ...]


async def worked_out(task: Task, summariser: Summariser) -> Worked | Failed:
    """Try the modes in turn. Raises nothing but what cancels the task, and programming errors."""
    attempts: list[Attempt] = []
    enough: Worked | None = None
    for mode in FALLBACKS[task.settings.mode]:
        found, attempt = await _tried(task, mode, summariser)
        attempts.append(attempt)
        if found is not None:
            enough = await _counted(task, found, summariser) if task.automatic else found
            if not _still_crowded(task, enough):
                break
        elif attempt.failure == "context_window_overflow" and mode == "sliding_window":
            break  # a longer transcript would not fit either
    if enough is not None:
        return replace(enough, attempts=tuple(attempts))
    last = attempts[-1]
    return Failed(last.failure or "summariser_failed", last.detail, tuple(attempts))


async def _counted(task: Task, worked: Worked, summariser: Summariser) -> Worked:
    """Have the vendor count the new window where an estimate leaves it open if it is small enough."""
    summary = worked.plan.item_of(worked.summary, utc_now())
    after = replace(task.window, items=(summary, *worked.plan.kept))
    counted = await summariser.counted(after, task.own, task.context_window, worked.tokens_after)
    if counted is None:
        return worked
    return replace(worked, tokens_after=counted, counted=True)


def _still_crowded(task: Task, worked: Worked) -> bool:
    """Tell whether a sliding window has not made enough room, so that `all` is tried as well."""
    if not task.automatic or worked.plan.mode not in SLIDING:
        return False
    return worked.tokens_after >= crowded_above(task.context_window)


def first_plan(task: Task) -> Plan | NoPlan:
    """Give the plan of the first mode that has one; what there is to say of the last if none has."""
    plan: Plan | NoPlan = NoPlan("no mode was tried")
    for mode in FALLBACKS[task.settings.mode]:
        plan = _planned(task, mode)
        if isinstance(plan, Plan):
            break
    return plan


def _planned(task: Task, mode: CompactionMode) -> Plan | NoPlan:
    return plan_of(
        task.window,
        task.bonds,
        mode,
        share=task.settings.sliding_window_percentage,
        context_window=task.context_window,
    )


async def _tried(
    task: Task, mode: CompactionMode, summariser: Summariser
) -> tuple[Worked | None, Attempt]:
    settings = in_mode(task.settings, mode)
    plan = await asyncio.to_thread(_planned, task, mode)
    attempt = Attempt(mode=mode, goal=plan.goal, tries=plan.tries)
    if isinstance(plan, NoPlan):
        return None, _failed(attempt, plan.failure, plan.words)
    if _hopeless(task, plan):
        words = f"what has to stay is some {plan.scaled(plan.size_kept)} tokens of {task.context_window}"
        return None, _failed(attempt, "not_smaller", words)
    try:
        said = await summariser.summary_of(task.window, plan, settings, task.own)
    except SummaryFailed as error:
        return None, _failed(_asked(attempt, error.said), error.reason, error.detail)
    return await asyncio.to_thread(_judged, task, settings, plan, said, _asked(attempt, said))


def _hopeless(task: Task, plan: Plan) -> bool:
    """Tell whether what has to stay is too much alone: then nothing is evicted for it in vain."""
    most = HOPELESS * task.context_window
    return task.trigger == "context_window_exceeded" and 0 < most < plan.scaled(plan.size_kept)


def in_mode(settings: CompactionSettings, mode: CompactionMode) -> CompactionSettings:
    """Give settings for a mode that is fallen back on: a prompt was written for its own mode."""
    if mode == settings.mode:
        return settings
    return settings.model_copy(update={"mode": mode, "prompt": PROMPTS[mode]})


def _asked(attempt: Attempt, said: Said) -> Attempt:
    """Add to an attempt what the summariser was asked, and what that cost."""
    known = {"model": said.model, "given": said.given, "sha256": said.sha256, "usage": said.usage}
    given = {name: value for name, value in known.items() if value is not None}
    return attempt.model_copy(update=given)


def _failed(attempt: Attempt, reason: CompactionFailure, detail: str | None) -> Attempt:
    told = {"failure": reason} if detail is None else {"failure": reason, "detail": detail}
    return attempt.model_copy(update=told)


def _judged(
    task: Task, settings: CompactionSettings, plan: Plan, said: Said, attempt: Attempt
) -> tuple[Worked | None, Attempt]:
    """See whether a summary may take the place of what it stands for."""
    summary = clipped(said.text, settings.clip_chars)
    size, replaced = estimate(summary), plan.size_before - plan.size_kept
    if plan.messages_after >= plan.messages_before:
        counts = f"{plan.messages_before} messages would become {plan.messages_after}"
        return None, _failed(attempt, "not_smaller", counts)
    if size > max(replaced, SHORT):
        sizes = f"a summary of {size} tokens for messages of {replaced}"
        return None, _failed(attempt, "not_smaller", sizes)
    retention = retention_of(texts_of(plan.evicted), summary)
    least = settings.min_retention if task.automatic else None
    if least is not None and retention.score < least:
        scores = f"retention {retention.score:.3f} is below {least:g}"
        return None, _failed(attempt, "retention_too_low", scores)
    return (
        Worked(
            plan,
            settings,
            said.model,
            summary,
            retention,
            (),
            plan.scaled(plan.size_kept + size_of(plan.item_of(summary, utc_now()))),
            plan.scaled(plan.system_size),
        ),
        attempt,
    )


def clipped(text: str, chars: int | None) -> str:
    """Cut a summary that is longer than it may be."""
    return text if chars is None or len(text) <= chars else text[:chars] + CLIPPED


def texts_of(items: Iterable[Item]) -> Iterator[str]:
    """Give all that items say: words, calls with their arguments, returns, earlier summaries."""
    for item in items:
        match item:
            case SummaryItem():
                yield item.summary
            case StepItem():
                for part in item.parts:
                    call = part.call
                    yield part.text or "" if call is None else f"{call.name} {call.arguments}"
            case MessageItem() | ReturnItem():
                yield from (part.text for part in item.parts if isinstance(part, Text))
