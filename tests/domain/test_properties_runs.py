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
    FailCompaction,
    HideRun,
    MessageQueued,
    PinMessage,
    RecompileSystem,
    RedoCompaction,
    UndoCompaction,
    WindowCompacted,
    WindowCompactionFailed,
    WindowCompactionStarted,
)
from domain.errors import DomainError, KeyReused
from domain.run import RunFinished, RunQueued
from domain.streams import COMPACTION
from projections.compaction import NoPlan, Plan
from projections.window import window_of
from tests.compactions import begin
from tests.domain.invariants import Watch, check, fate_of
from tests.domain.running import LEASE_S, Stream, Worker, begun, outcome_of
from tests.examples import SYSTEM

HOUR_S = 3600
WORKERS = 3
MODES = st.sampled_from(("reject", "enqueue", "enqueue", "interrupt", "rollback", "steer"))
REPLIES = st.sampled_from(
    (
        *("say", "say", "say", "fail", "end", "end", "gated", "server", "once", "both", "length"),
        *("overflow", "full end", "full end", "full gated", "full server", "full both"),
        "full length",
    )
)
# Room for a conversation, none to speak of, and nobody knows how much.
CONTEXT_WINDOWS = st.sampled_from((8000, 8000, 8000, 10, 0))
# Tools that end a run if they succeed: the server's, or one that waits for the client's word.
TERMINAL = st.sampled_from(((), (), ("count",), ("wait",), ("weather", "count")))
ACTS = st.lists(REPLIES, min_size=1, max_size=4)
WHO = st.integers(0, WORKERS - 1)
KEYS = st.sampled_from((("a",), ("b",), ("otid:1",), ("otid:1", "otid:2"), ("otid:3",)))


BEGINS = WindowCompactionStarted
ENDS = WindowCompacted | WindowCompactionFailed


def failed_of(compaction_id: str) -> WindowCompactionFailed:
    return WindowCompactionFailed(compaction_id=compaction_id, reason="lost")


class Runs(RuleBasedStateMachine):
    """One conversation, three workers, and everything that can go wrong between them."""

    @initialize(
        skews=st.tuples(*[st.integers(-HOUR_S, HOUR_S)] * WORKERS),
        context_window=CONTEXT_WINDOWS,
        terminal=TERMINAL,
        turns=st.integers(0, 3),
    )
    def begin(
        self, skews: tuple[int, ...], context_window: int, terminal: tuple[str, ...], turns: int
    ) -> None:
        self.stream: Stream = begun()
        self.stream.context_window = context_window
        self.stream.terminal = terminal
        self.workers = [
            Worker(f"node-{number}", skew_s, self.stream) for number, skew_s in enumerate(skews)
        ]
        self.checked = 0
        # What each key was first accepted with: kept here, not read from the state under test.
        self.accepted: dict[str, str] = {}
        self.watch = Watch()
        # What people who have asked for compactions are at.
        self.planned: list[tuple[str, Plan | NoPlan]] = []
        for _ in range(turns):
            self.converse(0, ["end"])

    # --- what clients do ------------------------------------------------------------------

    @rule(on_busy=MODES, tools=st.booleans())
    def say(self, on_busy: Any, tools: bool) -> None:
        self._try(self.stream.request(on_busy, (), "words", tools=tools))

    @rule(who=WHO, replies=ACTS)
    def converse(self, who: int, replies: list[str]) -> None:
        """A whole turn, or most of it, and what it has the worker do after it."""
        self._try(self.stream.request("enqueue", (), "words", tools=False))
        self.take_over(who, ["say", *replies, "end", "end", "end", "end"])

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

    # --- what people do to the window -----------------------------------------------------

    @rule(choice=st.integers(0, 3), share=st.sampled_from((0.0, 0.3, 0.8)), again=st.booleans())
    def compact(self, choice: int, share: float, again: bool) -> None:
        """Begin by hand; `again` gives up one that nobody seems to be at."""
        state = self.stream.state
        compaction_id = self.stream.new(COMPACTION)
        plan = self.stream.plan(state, choice, share)
        under_way = state.window.compacting
        lost = None if under_way is None or under_way.run_id else under_way.compaction_id
        command = begin(compaction_id, instead_of=lost if again else None)
        if self._try(command):
            self.planned.append((compaction_id, plan))

    @rule(choice=st.integers(0, 3), share=st.sampled_from((0.0, 0.3, 0.8)))
    def compact_at_once(self, choice: int, share: float) -> None:
        before = len(self.planned)
        self.compact(choice, share, True)
        if len(self.planned) > before:
            self.carry_out(before, True)

    @rule(pick=st.integers(0, 3), ok=st.booleans())
    @precondition(lambda self: self.planned)
    def carry_out(self, pick: int, ok: bool) -> None:
        compaction_id, plan = self.planned.pop(pick % len(self.planned))
        if ok:
            self._try(outcome_of(compaction_id, plan, self.stream))
        else:
            self._try(FailCompaction(failed_of(compaction_id)))

    @rule(pick=st.integers(0, 9), redo=st.booleans())
    @precondition(lambda self: self.stream.state.window.compactions)
    def undo(self, pick: int, redo: bool) -> None:
        known = [one.event for one in self.stream.facts if isinstance(one.event, WindowCompacted)]
        event = known[pick % len(known)]
        if not redo:
            self._try(UndoCompaction(event.compaction_id))
            return
        then = window_of(self.stream.facts[: event.audit.planned_at])
        spans = event.evicted.ranges
        ids = (
            item.message_id
            for item in then.items
            if any(span.first <= item.offset <= span.last for span in spans)
        )
        self._try(RedoCompaction(event.compaction_id, tuple(ids)))

    @rule(pick=st.integers(0, 30), pinned=st.booleans())
    @precondition(lambda self: self.watch.window.items)
    def pin(self, pick: int, pinned: bool) -> None:
        items = self.watch.window.items
        self._try(PinMessage(items[pick % len(items)].message_id, pinned))

    @rule()
    @precondition(lambda self: len(self.stream.facts) % 4 == 2)
    def recompile(self) -> None:
        self._try(RecompileSystem(SYSTEM, "memory has changed"))

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

    def _try(self, command: Any) -> bool:
        """Ask for something; tell whether it has led to anything."""
        before = len(self.stream.facts)
        try:
            return bool(self.stream.do(command))
        except DomainError:
            assert len(self.stream.facts) == before
            return False

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
            self.watch.see(self.stream.facts)
            check(self.stream)

    def teardown(self) -> None:
        """Left alone with one healthy worker, everything comes to an end."""
        if not hasattr(self, "stream"):
            return
        self.restart()
        if (lost := self.stream.state.window.compacting) is not None and lost.run_id is None:
            self.stream.do(FailCompaction(failed_of(lost.compaction_id)))
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
        began = [one.event for one in self.stream.facts if isinstance(one.event, ENDS | BEGINS)]
        ids = {one.compaction_id for one in began}
        assert Counter(one.compaction_id for one in began) == dict.fromkeys(ids, 2)
        self.watch.see(self.stream.facts)
        check(self.stream)
        fate = fate_of(self.stream.facts)
        waited = (one.event for one in self.stream.facts if isinstance(one.event, MessageQueued))
        assert all(fate[event.message_id] == 1 for event in waited)


TestRuns = Runs.TestCase
TestRuns.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
