"""A conversation and the workers that fight over it, simulated: stored facts, leases, crashes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from app.mapper import GENESIS, Row, data_of, envelope_of, hash_of, revive, state_of
from domain.content import Approval, ToolAnswer, ToolSchema
from domain.conversation import (
    AppendDeltas,
    Conversation,
    ConversationCommand,
    FailCompaction,
    FinishRun,
    FinishStep,
    FinishTool,
    JoinSteers,
    NewApproval,
    NewMessage,
    QueueRun,
    RecordCompaction,
    StartStep,
    StartTool,
    SupersedeStep,
    WindowCompactionFailed,
    conversation,
)
from domain.errors import DomainError
from domain.event import Recorded
from domain.events import type_of
from domain.run import (
    CalledTool,
    Claim,
    CloseCall,
    CloseStep,
    Compact,
    EndRun,
    Failure,
    FinishReason,
    LetIn,
    OfferedTool,
    OnBusy,
    Run,
    RunRequest,
    RunTool,
    StepDelta,
    StepPart,
    TakeStep,
    Usage,
    crowded_above,
    pending,
)
from domain.streams import COMPACTION, MESSAGE, RUN, STEP, id_of
from projections.compaction import NoPlan, Plan, plan_of
from projections.cuts import bonds_of
from projections.parts import interrupted_parts
from projections.window import window_of
from tests.compactions import MODES, begin, carried_out
from tests.examples import AT, CONVERSATION_ID, MANIFEST, MODEL, claim, start

LEASE_S = 10
TROUBLE = Failure(error_type="llm_error", message="The model's vendor failed.")
WEATHER = ToolSchema(name="weather")
Facts: TypeAlias = list[Recorded[Any]]


@dataclass
class Stream:
    """One conversation as a database has it: rows with hashes, and a lease."""

    facts: Facts = field(default_factory=list[Recorded[Any]])
    state: Conversation = field(default_factory=lambda: conversation.initial)
    prev: bytes = GENESIS
    now_s: int = 0
    lease: tuple[str, int] = ("", 0)
    # How much the model has room for, and how much of it its system prompt takes.
    context_window: int = 8000
    system_tokens: int = 10
    # Tools whose success ends a run.
    terminal: tuple[str, ...] = ()
    # Claims, as (run, epoch), that a crash or a pause past the lease has struck.
    struck: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    _ids: int = 0

    def do(self, command: ConversationCommand, by: str = "user", skew_s: int = 0) -> Facts:
        """Decide on the state as it is, store what follows, and fold it as it comes back."""
        new: Facts = []
        at = AT + timedelta(seconds=self.now_s + skew_s)
        for event in conversation.decide(self.state, command):
            version = len(self.facts) + 1
            body = state_of(self.prev, envelope_of(at, by), data_of(event))
            row = Row(CONVERSATION_ID, version, type_of(event), body)
            self.prev = hash_of(row)
            fact = revive(row)
            assert fact.event == event
            new.append(fact)
            self.facts.append(fact)
        for fact in new:
            self.state = conversation.evolve(self.state, fact.event, fact.version)
        return new

    def folded(self) -> Conversation:
        """Fold everything again."""
        state = conversation.initial
        for fact in self.facts:
            state = conversation.evolve(state, fact.event, fact.version)
        return state

    def free(self, node: str) -> bool:
        """Tell whether nobody else holds a lease that has not lapsed."""
        holder, until_s = self.lease
        return holder in ("", node) or until_s <= self.now_s

    def new(self, prefix: str) -> str:
        """Draw an id."""
        self._ids += 1
        return id_of(prefix, UUID(int=self._ids << 80 | self._ids << 8, version=4))

    def plan(self, view: Conversation, choice: int, share: float) -> Plan | NoPlan:
        """Plan to compact the window as it is, by what somebody believes of the conversation."""
        return plan_of(
            window_of(self.facts),
            bonds_of(view),
            MODES[choice % len(MODES)],
            share=share,
            context_window=8000,
        )

    def request(
        self, on_busy: OnBusy, keys: tuple[str, ...], body: str, *, tools: bool
    ) -> QueueRun:
        """Make a request with one message."""
        message = NewMessage(self.new(MESSAGE), self.new("x")[2:], "user", body)
        return QueueRun(
            self.new(RUN),
            RunRequest(max_steps=4),
            (message,),
            on_busy,
            body,
            keys,
            (WEATHER,) if tools else (),
        )

    def answer(self, answers: Iterable[Approval | ToolAnswer]) -> QueueRun:
        """Make a request that answers tool calls."""
        approval = NewApproval(self.new(MESSAGE), self.new("x")[2:], tuple(answers))
        return QueueRun(
            self.new(RUN), RunRequest(max_steps=4), (), "enqueue", "answer", (), (), approval
        )


@dataclass
class Worker:
    """A node: what it believes, which may be old, and a clock that may be wrong."""

    name: str
    skew_s: int
    stream: Stream
    view: Conversation = field(default_factory=lambda: conversation.initial)
    held: tuple[str, int] = ("", 0)
    said: int = 0
    # The compaction that it is at: its id, and what it comes to.
    planned: tuple[str, Plan | NoPlan] | None = None

    def look(self) -> None:
        """Catch up."""
        self.view = self.stream.state

    def crash(self) -> None:
        """Forget everything but its name."""
        self.stream.struck.add(self.held)
        self.held, self.view = ("", 0), conversation.initial
        self.planned = None

    def act(self, reply: str) -> bool:
        """Do the next thing for the run it believes to be next; `reply` says how a step goes.

        False if it was too late: then it looks again, and begins from a claim.
        """
        run = self.view.next_run
        if run is None:
            return False
        mine = self.held[1] if self.held[0] == run.run_id else None
        try:
            if mine == run.epoch and run.step is not None and not run.cancelled:
                self._talk(run, run.step.s, reply)
            else:
                self._perform(run, mine)
        except DomainError:
            self.held, self.planned = ("", 0), None
            self.look()
            return False
        self.look()
        return True

    def _do(self, command: ConversationCommand) -> Facts:
        return self.stream.do(command, self.name, self.skew_s)

    def _perform(self, run: Run, mine: int | None) -> None:
        effect = pending(run, mine, steered=bool(self.view.steers))
        match effect:
            case Claim():
                self._claim(run, effect)
            case LetIn():
                self._do(JoinSteers(effect.run_id, effect.epoch))
            case TakeStep():
                self._start(effect)
            case CloseStep():
                deltas = (fact.event for fact in self.stream.facts)
                grown = [one for one in deltas if isinstance(one, StepDelta) and one.s == effect.s]
                parts = interrupted_parts(effect.s, grown)
                self._do(
                    FinishStep(effect.run_id, effect.epoch, effect.s, "interrupted", parts=parts)
                )
            case RunTool():
                call = effect.call
                idempotent = call.name == "count"
                self._do(StartTool(effect.run_id, effect.epoch, call.s, call.id, idempotent))
                self._finish(effect, "ok")
            case CloseCall():
                self._finish(effect, "unknown")
            case Compact():
                self._compact(effect)
            case EndRun():
                self._do(FinishRun(effect))

    def _claim(self, run: Run, effect: Claim) -> None:
        if run.epoch and not self.stream.free(self.name):
            return
        lapsed = self.stream.lease[0] != self.name and self.stream.free(self.name)
        context_window = self.stream.context_window
        tools = tuple(OfferedTool(name=one, terminal=True) for one in self.stream.terminal)
        command = claim(effect.run_id, effect.epoch)
        self._do(replace(command, context_window=context_window, tools=tools))
        self.planned = None
        if lapsed:
            self.stream.struck.add((run.run_id, run.epoch))
        self.held = (effect.run_id, effect.epoch)
        self.stream.lease = (self.name, self.stream.now_s + LEASE_S)

    def _start(self, effect: TakeStep) -> None:
        command = StartStep(
            effect.run_id,
            effect.epoch,
            self.stream.new(STEP),
            effect.index,
            effect.attempt,
            self.stream.new(MESSAGE),
            MODEL,
            {},
            MANIFEST,
            ("weather",),
        )
        self._do(command)
        self.said = 0

    def _compact(self, effect: Compact) -> None:
        """Begin a compaction, or carry out the one begun; wait while somebody else is at one."""
        if self.planned is not None:
            (compaction_id, plan), self.planned = self.planned, None
            self._do(outcome_of(compaction_id, plan, self.stream, effect))
            return
        compaction_id = self.stream.new(COMPACTION)
        plan = self.stream.plan(self.view, len(self.stream.facts), 0.3)
        command = begin(
            compaction_id,
            trigger=effect.trigger,
            run_id=effect.run_id,
            epoch=effect.epoch,
            s=effect.s,
        )
        if self._do(command):
            self.planned = compaction_id, plan

    def _finish(self, effect: RunTool | CloseCall, status: Any) -> None:
        call = effect.call
        self._do(FinishTool(effect.run_id, effect.epoch, call.s, call.id, status, "done"))

    def begin_tool(self) -> None:
        """Begin to run a tool and say no more of it: the crash comes in the middle."""
        run = self.view.next_run
        if run is None or self.held != (run.run_id, run.epoch):
            return
        effect = pending(run, run.epoch)
        if isinstance(effect, RunTool):
            call = effect.call
            try:
                self._do(
                    StartTool(effect.run_id, effect.epoch, call.s, call.id, call.name == "count")
                )
            except DomainError:
                self.held = ("", 0)
            self.look()

    def give_up(self) -> None:
        """End the run, as after an error that no second try helps against."""
        run = self.view.next_run
        if run is None or (run.epoch and self.held != (run.run_id, run.epoch)):
            return
        try:
            self._do(FinishRun(EndRun(run.run_id, run.epoch, "failed", "llm_api_error", TROUBLE)))
        except DomainError:
            self.held = ("", 0)
        self.look()

    def _talk(self, run: Run, s: int, reply: str) -> None:
        """Go on with a step: say something, fail before it, or come to its end."""
        run_id, epoch = run.run_id, run.epoch
        if reply == "say":
            self._do(AppendDeltas(run_id, epoch, (StepDelta(s=s, i=0, kind="text", x="word "),)))
        elif reply == "fail":
            self._do(SupersedeStep(run_id, epoch, s, "provider_error", 500))
        elif reply == "overflow":
            self._do(SupersedeStep(run_id, epoch, s, "context_exceeded"))
        else:
            full, kind = reply.startswith("full "), reply.removeprefix("full ")
            tokens = crowded_above(self.stream.context_window) + 1 if full else 1
            why: FinishReason = "length" if kind == "length" else "stop"
            parts = self._parts(s, kind)
            usage = Usage(input_tokens=tokens)
            self._do(
                FinishStep(run_id, epoch, s, "ok", parts=parts, usage=usage, finish_reason=why)
            )

    def _parts(self, s: int, reply: str) -> tuple[StepPart, ...]:
        facts = (fact.event for fact in self.stream.facts)
        text = "".join(one.x for one in facts if isinstance(one, StepDelta) and one.s == s)
        parts = [StepPart(s=s, i=0, kind="text", text=text)]
        names = {"gated": ["weather"], "server": ["count"], "once": ["wait"]}.get(reply, [])
        if reply in ("both", "length"):
            names = ["weather", "wait"]
        for i, name in enumerate(names, start=1):
            call = CalledTool(id=f"call-{i}", name=name, arguments="{}")
            if name == "weather":
                call = call.model_copy(update={"gated": True})
            parts.append(StepPart(s=s, i=i, kind="call", call=call))
        return tuple(parts)


def outcome_of(
    compaction_id: str, plan: Plan | NoPlan, stream: Stream, effect: Compact | None = None
) -> RecordCompaction | FailCompaction:
    """Say what a plan comes to, for a run or for a person."""
    if isinstance(plan, NoPlan):
        return FailCompaction(
            WindowCompactionFailed(
                compaction_id=compaction_id, reason=plan.failure, detail=plan.words
            )
        )
    return RecordCompaction(
        carried_out(
            compaction_id,
            plan,
            trigger="manual" if effect is None else effect.trigger,
            run_id=None if effect is None else effect.run_id,
            system_tokens=stream.system_tokens,
        )
    )


def begun() -> Stream:
    """Begin a conversation."""
    stream = Stream()
    stream.do(start)
    return stream
