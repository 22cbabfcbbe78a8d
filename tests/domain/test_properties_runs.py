"""Queue, claim, step, delta, cancel, crash, restart, lapse and wrong clocks, in any order."""

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from domain.content import Approval, ToolAnswer
from domain.conversation import (
    CancelRuns,
    DeleteConversation,
    HideRun,
    MessageAppended,
    MessageQueued,
    MessageWithdrawn,
)
from domain.errors import DomainError, KeyReused
from domain.run import (
    ATTEMPTS_MAX,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    RunQueued,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
    ToolStarted,
)
from projections.window import ReturnItem, StepItem, window_of
from tests.domain.running import LEASE_S, Facts, Stream, Worker, begun

HOUR_S = 3600
WORKERS = 3
MODES = st.sampled_from(("reject", "enqueue", "enqueue", "interrupt", "rollback", "steer"))
REPLIES = st.sampled_from(
    ("say", "say", "say", "fail", "end", "end", "gated", "server", "once", "both", "length")
)
ACTS = st.lists(REPLIES, min_size=1, max_size=4)
WHO = st.integers(0, WORKERS - 1)
KEYS = st.sampled_from((("a",), ("b",), ("otid:1",), ("otid:1", "otid:2"), ("otid:3",)))


class Runs(RuleBasedStateMachine):
    """One conversation, three workers, and everything that can go wrong between them."""

    @initialize(skews=st.tuples(*[st.integers(-HOUR_S, HOUR_S)] * WORKERS))
    def begin(self, skews: tuple[int, ...]) -> None:
        self.stream: Stream = begun()
        self.workers = [
            Worker(f"node-{number}", skew_s, self.stream) for number, skew_s in enumerate(skews)
        ]
        self.checked = 0
        # What each key was first accepted with: kept here, not read from the state under test.
        self.accepted: dict[str, str] = {}

    # --- what clients do ------------------------------------------------------------------

    @rule(on_busy=MODES, tools=st.booleans())
    def say(self, on_busy: Any, tools: bool) -> None:
        self._try(self.stream.request(on_busy, (), "words", tools=tools))

    @rule(on_busy=MODES, keys=KEYS, body=st.sampled_from(("x", "x", "y")))
    def say_again(self, on_busy: Any, keys: tuple[str, ...], body: str) -> None:
        known = {key: self.accepted[key] for key in keys if key in self.accepted}
        before = len(self.stream.facts)
        command = self.stream.request(on_busy, keys, body, tools=False)
        same = len(known) == len(keys) and set(known.values()) == {body}
        try:
            self.stream.do(command)
        except KeyReused:
            assert known
            assert not same
        except DomainError:
            assert not known or self.stream.state.deleted
        else:
            assert same or not known
            self.accepted.update(dict.fromkeys(keys, body))
        assert (len(self.stream.facts) == before) or not known

    @rule(some=st.booleans(), pick=st.integers(0, 5), reason=st.sampled_from(("user", "rollback")))
    @precondition(lambda self: len(self.stream.facts) % 4 == 0)
    def cancel(self, some: bool, pick: int, reason: Any) -> None:
        runs = [*self.stream.state.runs]
        ids = (runs[pick % len(runs)],) if some and runs else None
        self._try(CancelRuns(ids, reason))

    @rule(words=st.sampled_from(("approve", "deny", "return", "wrong")))
    def answer(self, words: str) -> None:
        asked = self.stream.state.asked
        ids = ["nobody"] if asked is None or words == "wrong" else asked.gated
        answers = [
            ToolAnswer(tool_call_id=one, tool_return="sunny")
            if words == "return"
            else Approval(tool_call_id=one, approve=words == "approve")
            for one in ids
        ]
        self._try(self.stream.answer(answers))

    @rule(pick=st.integers(0, 20))
    @precondition(lambda self: len(self.stream.facts) % 4 == 1)
    def hide(self, pick: int) -> None:
        queued = [one.event.run_id for one in self.stream.facts if isinstance(one.event, RunQueued)]
        if queued:
            self._try(HideRun(queued[pick % len(queued)]))

    @rule()
    @precondition(lambda self: len(self.stream.facts) % (4 if self.stream.state.asked else 16) == 3)
    def delete(self) -> None:
        self._try(DeleteConversation())

    # --- what workers do ------------------------------------------------------------------

    @rule(who=WHO, replies=st.lists(REPLIES, min_size=1, max_size=8))
    def work(self, who: int, replies: list[str]) -> None:
        """Do what is next, on a view that may be old."""
        for reply in replies:
            self.workers[who].act(reply)

    @rule(who=WHO, replies=st.lists(REPLIES, min_size=1, max_size=8))
    def work_awake(self, who: int, replies: list[str]) -> None:
        """Do what is next, as a worker that is woken by every fact."""
        for reply in replies:
            self.workers[who].look()
            self.workers[who].act(reply)

    @rule(who=WHO, replies=st.lists(REPLIES, min_size=1, max_size=8))
    def take_over(self, who: int, replies: list[str]) -> None:
        """Do what is next, after everybody else's lease has lapsed."""
        self.stream.now_s += 2 * LEASE_S
        self.work_awake(who, replies)

    @rule(before=ACTS, between=ACTS, after=ACTS, who=WHO, cancelled=st.booleans())
    def overtaken(
        self, before: list[str], between: list[str], after: list[str], who: int, cancelled: bool
    ) -> None:
        """A worker is paused past its lease in the middle, another takes over, the first goes on."""
        self.work_awake(who, before)
        self.take_over((who + 1) % WORKERS, between)
        if cancelled:
            self._try(CancelRuns())
        self.work(who, after)

    @rule(who=WHO)
    def fail_and_fail(self, who: int) -> None:
        """Every attempt at a step fails before it has said anything."""
        self.work_awake(who, ["fail"] * 9)

    @rule(before=ACTS, who=WHO, reply=REPLIES, failing=st.booleans())
    def cancelled_under(self, before: list[str], who: int, reply: str, failing: bool) -> None:
        """A cancel comes while a worker is at it; what it does next, it does not knowing that."""
        self._try(self.stream.request("reject", (), "words", tools=False))
        self.take_over(who, before)
        self._try(CancelRuns())
        if failing:
            self.workers[who].give_up()
        else:
            self.workers[who].act(reply)

    @rule(who=WHO, awake=st.booleans())
    @precondition(lambda self: len(self.stream.facts) % 2 == 0)
    def give_up(self, who: int, awake: bool) -> None:
        if awake:
            self.workers[who].look()
        self.workers[who].give_up()

    @rule(who=WHO)
    def look(self, who: int) -> None:
        self.workers[who].look()

    @rule(who=WHO)
    def break_off_in_a_tool(self, who: int) -> None:
        self.workers[who].begin_tool()

    @rule(who=WHO)
    def crash(self, who: int) -> None:
        self.workers[who].crash()

    @rule()
    def restart(self) -> None:
        """All stop, and leases with them."""
        for worker in self.workers:
            worker.crash()
        self.stream.lease = ("", 0)

    @rule(seconds=st.sampled_from((1, 3, LEASE_S, 10 * LEASE_S)))
    def wait(self, seconds: int) -> None:
        self.stream.now_s += seconds

    @rule(who=WHO)
    def renew(self, who: int) -> None:
        holder, _ = self.stream.lease
        if holder == self.workers[who].name:
            self.stream.lease = (holder, self.stream.now_s + LEASE_S)

    def _try(self, command: Any) -> None:
        before = len(self.stream.facts)
        try:
            self.stream.do(command)
        except DomainError:
            assert len(self.stream.facts) == before

    # --- what always holds ----------------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        if len(self.stream.facts) != self.checked:
            self.checked = len(self.stream.facts)
            state = self.stream.state
            assert self.stream.folded() == state
            if state.deleted:
                assert state.asked is None
                assert all(run.cancelled or run.joined for run in state.runs.values())
            check(self.stream)

    def teardown(self) -> None:
        """Left alone with one healthy worker, everything comes to an end."""
        if not hasattr(self, "stream"):
            return
        self.restart()
        worker = self.workers[0]
        for _ in range(2000):
            if self.stream.state.asked is not None:
                self.stream.do(CancelRuns())
            worker.look()
            if not self.stream.state.runs:
                break
            worker.act("end")
        assert not self.stream.state.runs
        assert not self.stream.state.waiting
        ends = Counter(
            one.event.run_id for one in self.stream.facts if isinstance(one.event, RunFinished)
        )
        queued = [one.event.run_id for one in self.stream.facts if isinstance(one.event, RunQueued)]
        assert ends == Counter(queued)
        check(self.stream)
        fate = fate_of(self.stream.facts)
        waited = (one.event for one in self.stream.facts if isinstance(one.event, MessageQueued))
        assert all(fate[event.message_id] == 1 for event in waited)


def check(stream: Stream) -> None:
    """Check all that can be checked at any moment."""
    check_runs(stream.facts)
    check_calls(stream)
    check_cancels(stream.facts)
    fate = fate_of(stream.facts)
    assert not fate or max(fate.values()) == 1
    check_window(stream)


def check_runs(facts: Facts) -> None:
    """A run ends at most once; nothing of an old epoch follows a newer claim."""
    epochs: dict[str, int] = {}
    steps: dict[int, tuple[str, int]] = {}
    open_step: int | None = None
    over: set[str] = set()
    tries: Counter[tuple[str, int]] = Counter()
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
                tries[event.run_id, event.index] += 1
                assert event.attempt == tries[event.run_id, event.index] <= ATTEMPTS_MAX
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
                assert event.reason == "provider_error" or struck
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


TestRuns = Runs.TestCase
TestRuns.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
