"""What a run came to, as one document (contract section 3.2)."""

from collections.abc import Sequence
from typing import Any

from typing_extensions import TypedDict

from domain.conversation import (
    ConsolidationQueued,
    MessageAppended,
    MessageQueued,
    WindowCompacted,
    WindowCompactionStarted,
)
from domain.event import Recorded
from domain.run import RunFinished, RunQueued, RunRequest, StepStarted
from projections.frames import usage_shown
from projections.letta import only, summary_message
from projections.listing import messages_of
from projections.wire import Message, StopReasonShown, UsageShown


class LettaResponse(TypedDict):
    """A run's output, without the messages that were sent in."""

    messages: list[Message]
    stop_reason: StopReasonShown
    usage: UsageShown
    logprobs: None
    turns: None


def ending_of(facts: Sequence[Recorded[Any]], run_id: str) -> RunFinished:
    """Give the fact that ended a run. Raises StopIteration if it is not there."""
    return next(
        fact.event
        for fact in facts
        if isinstance(fact.event, RunFinished) and fact.event.run_id == run_id
    )


def response_of(facts: Sequence[Recorded[Any]], run_id: str) -> LettaResponse:
    """Give what a run came to, of the types that it was asked for.

    `facts` are its conversation's from its `run.queued` to its `run.finished`, deltas left out or
    not. A steer's output is that of the run it joined, from there on.
    """
    ending = ending_of(facts, run_id)
    request = _request_of(facts, run_id)
    placed = [
        (place, item)
        for place, items in placed_messages_of_run(facts, run_id)
        for item in items
        if item["step_id"] is not None
    ]
    if request.compaction_messages:
        placed = sorted([*placed, *_summaries(facts, run_id)], key=_place)
    return {
        "messages": only([item for _, item in placed], request.filters),
        "stop_reason": {"message_type": "stop_reason", "stop_reason": ending.stop_reason},
        "usage": usage_shown(ending.usage, _led_to(facts, run_id)),
        "logprobs": None,
        "turns": None,
    }


def messages_of_run(facts: Sequence[Recorded[Any]], run_id: str) -> list[list[Message]]:
    """List what was sent in and what came out of a run, message by message."""
    return [items for _, items in placed_messages_of_run(facts, run_id)]


def placed_messages_of_run(
    facts: Sequence[Recorded[Any]], run_id: str
) -> list[tuple[int, list[Message]]]:
    """List the same with the offsets that they stand at."""
    since = {run_id: 0, **_joined(facts, run_id)}
    return [
        (place, items)
        for place, items in messages_of(facts)
        if place >= since.get(items[0]["run_id"] or "", place + 1)
    ]


def _summaries(facts: Sequence[Recorded[Any]], run_id: str) -> list[tuple[int, Message]]:
    """Give the summaries of the compactions that the run led to, as its frames tell of them."""
    since = {run_id: 0, **_joined(facts, run_id)}
    own = [
        fact
        for fact in facts
        if isinstance(fact.event, StepStarted | WindowCompactionStarted | WindowCompacted)
        and fact.version >= since.get(fact.event.run_id or "", fact.version + 1)
    ]
    steps = {fact.version: fact.event.step_id for fact in own if _is(fact, StepStarted)}
    begun = {
        fact.event.compaction_id: fact.event.s for fact in own if _is(fact, WindowCompactionStarted)
    }
    return [
        (fact.version, summary_message(fact, steps.get(begun.get(fact.event.compaction_id) or 0)))
        for fact in own
        if _is(fact, WindowCompacted)
    ]


def _led_to(facts: Sequence[Recorded[Any]], run_id: str) -> list[str]:
    """Name the runs that a run's end led to: those that consolidate memory."""
    own = {run_id, *_joined(facts, run_id)}
    return [
        fact.event.run_id
        for fact in facts
        if isinstance(fact.event, ConsolidationQueued) and fact.event.after_run in own
    ]


def _is(fact: Recorded[Any], kind: type) -> bool:
    return isinstance(fact.event, kind)


def _place(placed: tuple[int, Message]) -> int:
    return placed[0]


def _joined(facts: Sequence[Recorded[Any]], run_id: str) -> dict[str, int]:
    """Give the run that this one's messages went into, if any, and since when."""
    own = {
        fact.version
        for fact in facts
        if isinstance(fact.event, MessageQueued) and fact.event.run_id == run_id
    }
    return {
        fact.event.run_id: fact.version
        for fact in facts
        if isinstance(fact.event, MessageAppended) and fact.event.queued in own
    }


def _request_of(facts: Sequence[Recorded[Any]], run_id: str) -> RunRequest:
    asked = (
        fact.event.request
        for fact in facts
        if isinstance(fact.event, RunQueued) and fact.event.run_id == run_id
    )
    return next(asked, RunRequest())
