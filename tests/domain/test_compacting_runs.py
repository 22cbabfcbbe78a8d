"""What a run may do to its window, and when it may not any more."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from domain.conversation import (
    RecordCompaction,
    StartCompaction,
    WindowCompacted,
    WindowCompactionStarted,
    conversation,
)
from domain.errors import Stale
from domain.run import Span, StepSuperseded, Usage
from tests.examples import (
    MESSAGE_ID,
    RUN_ID,
    appended,
    cancel_requested,
    claimed,
    queued,
    started,
    step_finished,
    step_started,
)
from tests.given import given

STORED: Final = Path(__file__).parents[1] / "stored" / "window.compacted.json"
SAMPLE: Final = WindowCompacted.model_validate_json(
    json.dumps(json.loads(STORED.read_text())["body"]["data"])
)
OTHER: Final = "compaction-99999999-9999-4999-8999-999999999999"

no_room = StepSuperseded(s=5, reason="context_exceeded", attempt=1, attempts_max=3, delay_ms=0)
overflowing = (started, queued(), appended(), claimed(), step_started(), no_room)
begin = StartCompaction(
    compaction_id=SAMPLE.compaction_id,
    trigger="context_window_exceeded",
    event_id=MESSAGE_ID,
    tokens=1000,
    context_window=900,
    run_id=RUN_ID,
    epoch=1,
    s=5,
)
begun = WindowCompactionStarted(
    compaction_id=SAMPLE.compaction_id,
    trigger="context_window_exceeded",
    run_id=RUN_ID,
    s=5,
    event_id=MESSAGE_ID,
    tokens=1000,
    context_window=900,
)


def of_the_run(first: int, last: int) -> WindowCompacted:
    """Give a compaction of a run's, of what stands between two offsets."""
    evicted = SAMPLE.evicted.model_copy(update={"ranges": (Span(first=first, last=last),)})
    audit = SAMPLE.audit.model_copy(update={"planned_at": 7})
    return SAMPLE.model_copy(update={"run_id": RUN_ID, "evicted": evicted, "audit": audit})


def test_a_run_without_room_has_its_window_compacted() -> None:
    given(conversation, *overflowing).when(begin).then(begun)


def test_one_for_which_somebody_else_has_made_room_does_not() -> None:
    by_hand = begun.model_copy(update={"compaction_id": OTHER, "run_id": None, "trigger": "manual"})
    made = SAMPLE.model_copy(update={"compaction_id": OTHER})
    given(conversation, *overflowing, by_hand, made).when(begin).then_refused(Stale, saying="room")


def test_nor_one_of_another_epoch_or_that_was_cancelled() -> None:
    given(conversation, *overflowing).when(replace(begin, epoch=2)).then_refused(Stale)
    cancelled = (*overflowing, cancel_requested(RUN_ID))
    given(conversation, *cancelled).when(begin).then_refused(Stale)


def test_what_a_run_has_yet_to_answer_does_not_leave() -> None:
    events = given(conversation, *overflowing, begun).when(RecordCompaction(of_the_run(3, 3)))
    (failed,) = events.decided()
    assert failed.type == "window.compaction_failed"
    assert failed.reason == "overtaken"


def test_a_cancelled_run_changes_no_window_any_more() -> None:
    compacted = RecordCompaction(of_the_run(1, 1))
    given(conversation, *overflowing, begun).when(compacted).then(compacted.event)
    cancelled = (*overflowing, begun, cancel_requested(RUN_ID))
    given(conversation, *cancelled).when(compacted).then_refused(Stale, saying="cancelled")


def test_a_question_may_leave_once_its_run_has_answered() -> None:
    crowded = claimed().model_copy(update={"context_window": 10})
    read = step_finished().model_copy(update={"usage": Usage(input_tokens=1000)})
    facts = (started, queued(), appended(), crowded, step_started(), read, begun)
    compacted = RecordCompaction(of_the_run(3, 5))
    given(conversation, *facts).when(compacted).then(compacted.event)
