"""Histories for projections: written by hand, or drawn at random but only as `decide` allows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias
from uuid import UUID

from hypothesis import strategies as st

from app.mapper import GENESIS, Row, data_of, envelope_of, hash_of, revive, state_of
from domain.content import OutputPart, Reasoning, Redacted, Text, ToolCall
from domain.conversation import (
    AppendDeltas,
    CancelRuns,
    ChangeConversation,
    Conversation,
    ConversationChanged,
    ConversationCommand,
    DeleteConversation,
    FinishRun,
    FinishStep,
    FinishTool,
    JoinSteers,
    NewMessage,
    QueueRun,
    StartStep,
    StartTool,
    conversation,
)
from domain.errors import DomainError
from domain.event import Event, Recorded
from domain.events import type_of
from domain.run import (
    Claim,
    CloseCall,
    CloseStep,
    Compact,
    DeltaCall,
    Effect,
    EndRun,
    Failure,
    FinishReason,
    LetIn,
    OnBusy,
    Run,
    RunQueued,
    RunRequest,
    RunTool,
    StepDelta,
    TakeStep,
    ToolStatus,
    Usage,
    pending,
)
from domain.streams import MESSAGE, RUN, STEP, id_of
from projections.parts import interrupted_parts, stored_parts
from tests.examples import AT, BODY_HASH, BY, CONVERSATION_ID, MANIFEST, MODEL, claim, start

Facts: TypeAlias = list[Recorded[Any]]


def recorded(*events: Event, stream: str = CONVERSATION_ID) -> Facts:
    """Put facts at versions 1, 2, 3, …."""
    return [Recorded(stream, version, AT, BY, event) for version, event in enumerate(events, 1)]


def stored(facts: Iterable[Recorded[Any]]) -> Facts:
    """Give facts as they come back from storage."""
    revived: Facts = []
    prev = GENESIS
    for fact in facts:
        envelope = envelope_of(fact.at, fact.by)
        row = Row(
            fact.stream,
            fact.version,
            type_of(fact.event),
            state_of(prev, envelope, data_of(fact.event)),
        )
        prev = hash_of(row)
        revived.append(revive(row))
    return revived


def run_ids_of(facts: Iterable[Recorded[Any]]) -> list[str]:
    """Name the runs of a history."""
    return [fact.event.run_id for fact in facts if isinstance(fact.event, RunQueued)]


# --- drawn --------------------------------------------------------------------------------------

TYPES = (
    "assistant_message",
    "reasoning_message",
    "hidden_reasoning_message",
    "tool_call_message",
    "event_message",
    "summary_message",
)
WORDS = st.text('ab <&\n"é…', min_size=1, max_size=6)
FILTERS = st.none() | st.sets(st.sampled_from(TYPES), max_size=3).map(tuple)
REQUESTS = st.builds(
    RunRequest,
    streaming=st.booleans(),
    stream_tokens=st.booleans(),
    pings=st.booleans(),
    filters=FILTERS,
    compaction_messages=st.booleans(),
    max_steps=st.integers(1, 3),
)
USAGES = st.none() | st.builds(
    Usage,
    input_tokens=st.integers(0, 500),
    output_tokens=st.integers(0, 50),
    reasoning_tokens=st.none() | st.integers(0, 9),
)

Chunks: TypeAlias = tuple[str, ...]
CHUNKS = st.lists(WORDS, min_size=1, max_size=3).map(tuple)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A part as a model says it: of a kind, in chunks."""

    kind: Literal["text", "reasoning", "signed", "redacted", "call", "count"]
    chunks: Chunks

    @property
    def tool(self) -> str:
        """The tool that it calls, if it does."""
        return "weather" if self.kind == "call" else "count"

    def part(self, name: str) -> OutputPart:
        """Give the whole part; `name` is its call's id."""
        words = "".join(self.chunks)
        match self.kind:
            case "text":
                return Text(text=words)
            case "reasoning":
                return Reasoning(text=words)
            case "signed":
                return Reasoning(text=words, signature="signed")
            case "redacted":
                return Redacted(data=words)
            case "call" | "count":
                return ToolCall(id=name, name=self.tool, arguments=words)

    def deltas(self, s: int, i: int, name: str) -> list[StepDelta]:
        """Give it in the pieces that it comes in."""
        match self.kind:
            case "call" | "count":
                call = DeltaCall(id=name, name=self.tool)
                first = StepDelta(s=s, i=i, kind="arguments", x=self.chunks[0], call=call)
                more = [StepDelta(s=s, i=i, kind="arguments", x=x) for x in self.chunks[1:]]
                return [first, *more]
            case "signed":
                grown = [StepDelta(s=s, i=i, kind="reasoning", x=x) for x in self.chunks]
                return [*grown, StepDelta(s=s, i=i, kind="signature", x="signed")]
            case "text" | "reasoning" | "redacted" as kind:
                return [StepDelta(s=s, i=i, kind=kind, x=x) for x in self.chunks]


PARTS = st.builds(
    Spoken, st.sampled_from(("text", "reasoning", "signed", "redacted", "call", "count")), CHUNKS
)
# Silence is rare.
REPLIES = st.lists(PARTS, min_size=1, max_size=4).map(tuple) | st.lists(PARTS, max_size=4).map(
    tuple
)

Move: TypeAlias = Literal[
    "say", "work", "crash", "fail", "rename", "delete", "cancel", "interrupt", "steer", "rollback"
]
# What a server does most is work.
MOVES: st.SearchStrategy[Move] = st.sampled_from(
    (
        *("say", "say"),
        *("work", "work", "work", "work", "work", "work", "work", "work"),
        *("crash", "fail", "rename", "cancel", "interrupt", "steer", "rollback"),
    )
)


@dataclass(slots=True)
class History:
    """A conversation that can only become what `decide` allows.

    A fork's `before` are its ancestors' facts, up to where it left them, the oldest first.
    """

    draw: st.DrawFn
    facts: Facts = field(default_factory=list[Recorded[Any]])
    # What has led to them, in order, each with the offset at which it left the conversation.
    commands: list[tuple[ConversationCommand, int]] = field(
        default_factory=list[tuple[ConversationCommand, int]]
    )
    state: Conversation = field(default_factory=lambda: conversation.initial)
    held: tuple[str, int] | None = None
    reply: tuple[Spoken, ...] = ()
    unsent: list[StepDelta] = field(default_factory=list[StepDelta])
    # How much the model has room for, and the tools whose calls wait for the client.
    context_window: int = 8000
    gated: tuple[str, ...] = ()
    stream: str = CONVERSATION_ID
    before: Facts = field(default_factory=list[Recorded[Any]])
    ids: int = 0

    @property
    def line(self) -> Facts:
        """All facts that it goes back to, in their places."""
        return [*map(self.state.lineage.placed, (*self.before, *self.facts))]

    def do(self, command: ConversationCommand) -> Facts:
        """Have a command decided and its facts recorded."""
        new: Facts = []
        for event in conversation.decide(self.state, command):
            version = len(self.facts) + len(new) + 1
            new.append(Recorded(self.stream, version, AT, BY, event))
        for fact in new:
            self.state = conversation.evolve(self.state, fact.event, fact.version)
        self.facts += new
        if new:
            self.commands.append((command, len(self.facts)))
        return new

    def move(self, move: Move) -> None:
        """Have something happen, if it may."""
        match move:
            case "say":
                self._say()
            case "work":
                self.work()
            case "crash":
                self.held = None
            case "fail":
                self._fail()
            case "rename":
                self.attempt(ChangeConversation(ConversationChanged(summary=self.draw(WORDS))))
            case "delete":
                self.attempt(DeleteConversation())
            case "cancel":
                self.attempt(CancelRuns())
            case "interrupt" | "steer" | "rollback":
                self._say(move)

    def work(self) -> None:
        """Do a piece of what the run whose turn it is is owed."""
        run = self.state.next_run
        if run is None:
            return
        epoch = self.held[1] if self.held is not None and self.held[0] == run.run_id else None
        if run.step is not None and epoch == run.epoch and not run.cancelled:
            self._go_on(run, run.step.s)
            return
        self.perform(pending(run, epoch, steered=bool(self.state.steers)))

    def perform(self, effect: Effect) -> None:
        """Do what a run is owed."""
        match effect:
            case Claim():
                command = claim(effect.run_id, effect.epoch)
                self.do(replace(command, context_window=self.context_window))
                self.held = (effect.run_id, effect.epoch)
            case CloseStep():
                parts = interrupted_parts(effect.s, self._deltas_of(effect.s))
                self.do(
                    FinishStep(effect.run_id, effect.epoch, effect.s, "interrupted", parts=parts)
                )
            case EndRun():
                self.do(FinishRun(effect))
            case TakeStep():
                self._start_step(effect)
            case LetIn():
                self.do(JoinSteers(effect.run_id, effect.epoch))
            case RunTool():
                self._run_tool(effect)
            case CloseCall():
                self._close_call(effect, "unknown")
            case Compact():
                raise AssertionError("What these runs say is too little to fill a window.")

    def _deltas_of(self, s: int) -> list[StepDelta]:
        events = (fact.event for fact in self.facts)
        return [one for one in events if isinstance(one, StepDelta) and one.s == s]

    def _start_step(self, effect: TakeStep) -> None:
        command = StartStep(
            run_id=effect.run_id,
            epoch=effect.epoch,
            step_id=self.new(STEP),
            index=effect.index,
            attempt=effect.attempt,
            message_id=self.new(MESSAGE),
            model=MODEL,
            settings={},
            manifest=MANIFEST,
            gated=self.gated,
        )
        s = self.do(command)[0].version
        self.reply = self.draw(REPLIES)
        self.unsent = [
            delta
            for i, spoken in enumerate(self.reply)
            for delta in spoken.deltas(s, i, f"call-{s}-{i}")
        ]

    def _run_tool(self, effect: RunTool) -> None:
        call = effect.call
        idempotent = self.draw(st.booleans())
        self.do(StartTool(effect.run_id, effect.epoch, call.s, call.id, idempotent))
        if self.draw(st.booleans()):
            self._close_call(effect, self.draw(st.sampled_from(("ok", "error"))))
        else:
            self.held = None

    def _close_call(self, effect: RunTool | CloseCall, status: ToolStatus) -> None:
        call = effect.call
        command = FinishTool(effect.run_id, effect.epoch, call.s, call.id, status, self.draw(WORDS))
        self.do(command)

    def _go_on(self, effect: Run, s: int) -> None:
        count = self.draw(st.sampled_from((1, 1, 2, 3, len(self.unsent))))
        sent, self.unsent = tuple(self.unsent[:count]), self.unsent[count:]
        if self.unsent:
            self.attempt(AppendDeltas(effect.run_id, effect.epoch, sent) if sent else None)
            return
        parts = [spoken.part(f"call-{s}-{i}") for i, spoken in enumerate(self.reply)]
        calls = any(isinstance(part, ToolCall) for part in parts)
        reasons: Sequence[FinishReason] = ("tool_call",) if calls else ("stop", "length")
        self.do(
            FinishStep(
                effect.run_id,
                effect.epoch,
                s,
                "ok",
                deltas=sent,
                parts=stored_parts(s, parts, self.gated),
                usage=self.draw(USAGES),
                finish_reason=self.draw(st.sampled_from(reasons)),
            )
        )

    def _say(self, on_busy: OnBusy | None = None) -> None:
        request = self.draw(REQUESTS)
        roles = self.draw(st.lists(st.sampled_from(("user", "user", "system")), max_size=2))
        messages = tuple(
            NewMessage(self.new(MESSAGE), self.new("x")[2:], role, self.draw(WORDS))
            for role in ("user", *roles)
        )
        usual: OnBusy = "reject" if request.streaming else "enqueue"
        self.attempt(QueueRun(self.new(RUN), request, messages, on_busy or usual, BODY_HASH))

    def _fail(self) -> None:
        run: Run | None = self.state.next_run
        if run is not None and self.held == (run.run_id, run.epoch) and not run.cancelled:
            failure = Failure(error_type="llm_error", message="The model's vendor failed.")
            ending = EndRun(run.run_id, run.epoch, "failed", "llm_api_error", failure)
            self.do(FinishRun(ending))

    def attempt(self, command: ConversationCommand | None) -> bool:
        """Have a command decided, if there is one; tell whether it has led to anything."""
        try:
            return command is not None and bool(self.do(command))
        except DomainError:
            return False

    def new(self, prefix: str) -> str:
        """Draw an id."""
        self.ids += 1
        return id_of(prefix, UUID(int=self.ids << 80 | self.ids << 8, version=4))


@st.composite
def histories(draw: st.DrawFn) -> Facts:
    """Draw a conversation's facts: several runs, lost steps, failures, waiting messages, an end."""
    history = History(draw)
    history.do(start)
    history.move("say")
    for move in draw(st.lists(MOVES, min_size=5, max_size=40)):
        history.move(move)
    if draw(st.booleans()):
        history.move("say")
        for _ in range(draw(st.integers(3, 6))):
            history.work()
        history.move("delete")
    for _ in range(draw(st.sampled_from((0, 40)))):
        history.work()
    return history.facts
