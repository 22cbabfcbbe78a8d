"""What holds of a conversation whatever happens to it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from domain.conversation import (
    MessageAppended,
    MessageQueued,
    MessageWithdrawn,
    WindowCompacted,
    WindowCompactionFailed,
    WindowCompactionRedone,
    WindowCompactionStarted,
)
from domain.event import Recorded
from domain.run import (
    ATTEMPTS_MAX,
    OVERFLOWS_MAX,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
    ToolStarted,
)
from projections.items import ReturnItem, StepItem, SummaryItem
from projections.marks import Marks
from projections.window import Window, evolve, window_of
from tests.domain.running import Facts, Stream


def check(stream: Stream) -> None:
    """Check all that can be checked at any moment."""
    check_runs(stream.facts)
    check_attempts(stream.facts)
    check_calls(stream)
    check_cancels(stream.facts)
    check_words(stream.facts)
    check_terminal(stream.facts)
    check_compactions(stream.facts)
    fate = fate_of(stream.facts)
    assert not fate or max(fate.values()) == 1
    check_window(stream)


def check_runs(facts: Facts) -> None:
    """A run ends at most once; nothing of an old epoch follows a newer claim."""
    epochs: dict[str, int] = {}
    steps: dict[int, tuple[str, int]] = {}
    open_step: int | None = None
    over: set[str] = set()
    for fact in facts:
        match fact.event:
            case RunClaimed() as event:
                assert event.run_id not in over
                assert event.epoch == epochs.get(event.run_id, 0) + 1
                epochs[event.run_id] = event.epoch
            case StepStarted() as event:
                assert event.epoch == epochs[event.run_id]
                assert open_step is None
                open_step = fact.version
                steps[fact.version] = (event.run_id, event.epoch)
            case StepDelta() | StepPart() as event:
                assert event.s == open_step
                run_id, epoch = steps[event.s]
                # Whoever takes over a cancelled run closes the step that it finds open.
                closing = isinstance(event, StepPart) and event.interrupted
                assert epochs[run_id] == epoch or closing
            case StepFinished() | StepSuperseded() as event:
                assert event.s == open_step
                run_id, epoch = steps[event.s]
                taking_over = isinstance(event, StepSuperseded) and event.reason == "taken_over"
                closing = isinstance(event, StepFinished) and event.outcome != "ok"
                assert epochs[run_id] == epoch + taking_over or closing
                open_step = None
            case ToolStarted() as event:
                assert event.epoch == epochs[event.run_id]
                assert event.run_id not in over
            case RunFinished() as event:
                assert event.run_id not in over
                assert open_step is None or steps[open_step][0] != event.run_id
                assert (event.epoch or 0) == epochs.get(event.run_id, 0)
                over.add(event.run_id)
            case _:
                pass


def check_attempts(facts: Facts) -> None:
    """Attempts at a step are counted and bounded; one that there was no room for is none."""
    steps: dict[int, tuple[str, int]] = {}
    tries: Counter[tuple[str, int]] = Counter()
    overflows: Counter[tuple[str, int]] = Counter()
    for fact in facts:
        match fact.event:
            case StepStarted() as event:
                step = steps[fact.version] = (event.run_id, event.index)
                tries[step] += 1
                assert event.attempt == tries[step] <= ATTEMPTS_MAX
            case StepSuperseded(reason="context_exceeded") as event:
                tries[steps[event.s]] -= 1
                overflows[steps[event.s]] += 1
                assert overflows[steps[event.s]] <= OVERFLOWS_MAX + 1
            case _:
                pass


def check_calls(stream: Stream) -> None:
    """The model is called again only after a failure on record, a crash, or a pause."""
    calls: Counter[tuple[str, int]] = Counter()
    again: Counter[tuple[str, int]] = Counter()
    steps: dict[int, StepStarted] = {}
    for fact in stream.facts:
        match fact.event:
            case StepStarted() as event:
                steps[fact.version] = event
                calls[event.run_id, event.index] += 1
                assert calls[event.run_id, event.index] <= 1 + again[event.run_id, event.index]
            case StepSuperseded() as event:
                step = steps[event.s]
                struck = (step.run_id, step.epoch) in stream.struck
                assert event.reason in ("provider_error", "context_exceeded") or struck
                again[step.run_id, step.index] += 1
            case _:
                pass


def check_cancels(facts: Facts) -> None:
    """After a run's cancel there is nothing of the model or a tool but what closes."""
    cancelled: set[str] = set()
    steps: dict[int, str] = {}
    for fact in facts:
        event = fact.event
        match event:
            case RunCancelRequested():
                cancelled.update(event.run_ids)
            case StepStarted():
                assert event.run_id not in cancelled
                steps[fact.version] = event.run_id
            case StepDelta():
                assert steps[event.s] not in cancelled
            case StepPart() if steps[event.s] in cancelled:
                assert event.interrupted
            case StepFinished() if steps[event.s] in cancelled:
                assert event.outcome == "interrupted"
            case ToolStarted():
                assert event.run_id not in cancelled
            case ToolFinished() if event.run_id in cancelled:
                assert event.status in ("cancelled", "denied")
            case RunFinished() if event.run_id in cancelled:
                assert event.status == "cancelled"
            case _:
                pass


def check_words(facts: Facts) -> None:
    """From a run's first step to its end nothing is said but by its own steps."""
    speaking: str | None = None
    steps: dict[int, str] = {}
    for fact in facts:
        match fact.event:
            case StepStarted() as event:
                assert speaking in (None, event.run_id)
                speaking = steps[fact.version] = event.run_id
            case StepDelta() | StepPart() as event:
                assert steps[event.s] == speaking
            case RunFinished() as event if event.run_id == speaking:
                speaking = None
            case _:
                pass


def check_terminal(facts: Facts) -> None:
    """A run that comes to its end is ended by a terminal tool's success if there was one.

    No step of it follows that; what returned before a step ends nothing after it.
    """
    terminal: dict[str, set[str]] = {}
    succeeded: defaultdict[str, set[str]] = defaultdict(set)
    for fact in facts:
        match fact.event:
            case RunClaimed() as event:
                terminal[event.run_id] = {one.name for one in event.tools if one.terminal}
            case StepStarted() as event:
                assert succeeded[event.run_id].isdisjoint(terminal[event.run_id])
                succeeded[event.run_id] = set()
            case ToolFinished(status="ok") as event:
                succeeded[event.run_id].add(event.name)
            case RunFinished(epoch=int(), status="completed") as event:
                if event.stop_reason != "requires_approval":
                    ended = succeeded[event.run_id] & terminal[event.run_id]
                    assert (event.stop_reason == "tool_rule") == bool(ended)
            case _:
                pass


def check_compactions(facts: Facts) -> None:
    """One is under way at a time and ends once; none begins or is recorded after a cancel."""
    cancelled: set[str | None] = set()
    begun: set[str] = set()
    under_way: str | None = None
    for fact in facts:
        match fact.event:
            case RunCancelRequested() as event:
                cancelled.update(event.run_ids)
            case WindowCompactionStarted() as event:
                assert under_way is None
                assert event.compaction_id not in begun
                assert event.run_id not in cancelled
                under_way = event.compaction_id
                begun.add(under_way)
            case WindowCompacted() as event:
                assert event.compaction_id == under_way
                assert event.run_id not in cancelled
                under_way = None
            case WindowCompactionFailed() as event:
                assert event.compaction_id == under_way
                under_way = None
            case _:
                pass


def fate_of(facts: Facts) -> Counter[str]:
    """Count how often each message entered or was withdrawn."""
    fate: Counter[str] = Counter()
    for fact in facts:
        match fact.event:
            case MessageAppended() as event:
                fate[event.message_id] += 1
            case MessageWithdrawn() as event:
                fate.update(event.message_ids)
            case MessageQueued() as event:
                assert fate[event.message_id] == 0
            case _:
                pass
    return fate


def check_window(stream: Stream) -> None:
    """Every return has its call, every call its return but those that somebody is still at."""
    window = window_of(stream.facts)
    steps = [item for item in window.items if isinstance(item, StepItem)]
    returns = {(item.s, item.tool_call_id) for item in window.items if isinstance(item, ReturnItem)}
    calls = {
        (step.offset, part.call.id)
        for step in steps
        for part in step.parts
        if part.call is not None and not part.interrupted
    }
    assert returns <= calls
    asked = () if stream.state.asked is None else stream.state.asked.calls
    working = (call for run in stream.state.runs.values() for call in run.calls)
    owed = {(call.s, call.id) for call in (*asked, *working)}
    assert calls - returns == owed
    if owed:
        assert {s for s, _ in owed} == {steps[-1].offset}
        assert {call.id for call in window.pending} == {call_id for _, call_id in owed}
    offsets = {item.offset for item in window.items}
    assert all(offsets.issuperset(run.asked) for run in stream.state.runs.values())


@dataclass
class Watch:
    """Follows the window fact by fact, and looks at what each of them does to it."""

    window: Window = field(default_factory=Window)

    def see(self, facts: Facts) -> None:
        """Catch up with a conversation."""
        for fact in facts[self.window.at :]:
            before, now = self.window, evolve(self.window, fact)
            self.window = window_of(facts[: fact.version]) if now.stale else now
            self._check(fact, before)
        assert self.window == window_of(facts)

    def _check(self, fact: Recorded[Any], before: Window) -> None:
        if isinstance(fact.event, WindowCompacted | WindowCompactionRedone):
            left = {one.message_id for one in before.items} - {
                one.message_id for one in self.window.items
            }
            assert left.isdisjoint(before.marks.pinned)
            assert self.window.pending == before.pending
        if isinstance(fact.event, WindowCompacted):
            leaving = self.window.marks.compactions[fact.event.compaction_id].offsets
            staying = {one.offset for one in self.window.items}
            assert all((one.offset in leaving) != (one.offset in staying) for one in before.items)
        check_marks(self.window)


def check_marks(window: Window) -> None:
    """What has left is in one place, and something stands for it."""
    marks: Marks = window.marks
    assert all(one[1] < other[0] for one, other in pairwise(marks.evicted.ranges))
    shown = {item.compaction_id for item in window.items if isinstance(item, SummaryItem)}
    evicted = marks.evicted
    for one in marks.active:
        version = one.fact.version
        assert one.fact.event.compaction_id in shown or version in evicted
