"""How long a step took: what is told of it, and what nobody knows."""

from datetime import timedelta
from typing import Any

import pytest

from domain.event import Event, Recorded
from domain.run import StepSuperseded, ToolFinished, ToolSource, ToolStarted
from projections.durations import StepTimes, times_of
from tests.examples import (
    AT,
    BY,
    CONVERSATION_ID,
    MESSAGE_ID,
    RUN_ID,
    STEP_ID,
    delta,
    step_finished,
    step_started,
)

MS = 1_000_000
S = 1


def timed(*facts: tuple[int, Event]) -> StepTimes:
    """Give the times of step 1, whose facts were recorded at these milliseconds."""
    recorded = [
        Recorded(CONVERSATION_ID, version, AT + timedelta(milliseconds=ms), BY, event)
        for version, (ms, event) in enumerate(facts, 1)
    ]
    return times_of(recorded, S)


def told(times: StepTimes) -> tuple[int | None, int | None, int | None]:
    """Give how long the model, the tools and the whole step took, in milliseconds."""
    reply, tools, whole = (
        None if one is None else one // MS
        for one in (times.reply_ns, times.tools_ns, times.whole_ns)
    )
    return reply, tools, whole


def begun(call: str, stream: str | None = None) -> ToolStarted:
    return ToolStarted(
        s=S,
        run_id=RUN_ID,
        epoch=1,
        tool_call_id=call,
        message_id=MESSAGE_ID,
        name="count",
        stream=stream,
    )


def returned(call: str, source: ToolSource = "server", stream: str | None = None) -> ToolFinished:
    return ToolFinished(
        s=S,
        run_id=RUN_ID,
        step_id=STEP_ID,
        tool_call_id=call,
        message_id=MESSAGE_ID,
        name="count",
        status="ok",
        content="1",
        source=source,
        stream=stream,
    )


def test_a_step_takes_as_long_as_its_model_and_then_its_tools_one_after_the_other() -> None:
    times = timed(
        (0, step_started()),
        (10, delta(S)),
        (30, step_finished(S)),
        (32, begun("a")),
        (37, returned("a")),
        (40, begun("b")),
        (41, returned("b")),
    )
    assert told(times) == (30, 6, 41)
    assert times.began_ns == int(AT.timestamp() * 1_000_000) * 1_000


def test_what_is_not_over_has_no_length_yet() -> None:
    under_way = [(0, step_started()), (10, delta(S)), (30, step_finished(S)), (32, begun("a"))]
    assert told(timed(under_way[0], under_way[1])) == (None, None, None)
    assert told(timed(*under_way[:3])) == (30, None, 30)
    assert told(timed(*under_way)) == (30, None, None)


@pytest.mark.parametrize(
    ("reason", "took"), [("provider_error", 30), ("timeout", 30), ("taken_over", None)]
)
def test_a_step_that_was_taken_over_ended_when_nobody_saw(reason: Any, took: int | None) -> None:
    lost = StepSuperseded(s=S, reason=reason, attempt=1)
    assert told(timed((0, step_started()), (30, lost))) == (took, None, took)


def test_only_what_the_server_saw_to_its_end_counts_as_its_tools() -> None:
    times = timed(
        (0, step_started()),
        (30, step_finished(S)),
        (90, returned("client", source="client")),
        (91, begun("broken")),
        (95, returned("broken", source="system")),
        (96, begun("parent", stream="conv-of-the-parent")),
        (99, returned("parent", stream="conv-of-the-parent")),
    )
    assert told(times) == (30, None, 30)


def test_a_tool_that_is_run_again_counts_from_its_last_beginning() -> None:
    times = timed(
        (0, step_started()),
        (30, step_finished(S)),
        (31, begun("a")),
        (60, begun("a")),
        (64, returned("a")),
    )
    assert told(times) == (30, 4, 64)
