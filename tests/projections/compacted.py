"""Histories in which windows are compacted in every way that the domain allows, drawn at random."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from hypothesis import strategies as st

from domain.content import Approval, ToolAnswer
from domain.conversation import (
    CompactionFailure,
    Conversation,
    FailCompaction,
    NewApproval,
    Parent,
    PinMessage,
    QueueRun,
    RecompileSystem,
    RecordCompaction,
    RedoCompaction,
    StartConversation,
    SupersedeStep,
    System,
    UndoCompaction,
    WindowCompacted,
    WindowCompactionFailed,
    conversation,
    seed_of,
)
from domain.run import Compact, Effect, StepDelta
from domain.streams import COMPACTION, MESSAGE, RUN
from projections.compaction import NoPlan, Plan, plan_of
from projections.cuts import Bonds, bonds_of
from projections.window import Window, window_of
from tests.compactions import MODES, begin, carried_out
from tests.examples import BODY_HASH, start
from tests.projections.histories import MOVES as PLAIN_MOVES
from tests.projections.histories import REQUESTS, WORDS, Facts, History, Move

Shrinking: TypeAlias = Literal[
    "turn",
    "answer",
    "compact",
    "begin",
    "carry_out",
    "undo",
    "redo",
    "pin",
    "release",
    "recompile",
    "overflow",
]
MOVES: Final[st.SearchStrategy[Move | Shrinking]] = st.one_of(
    PLAIN_MOVES,
    st.sampled_from(("turn", "turn", "turn", "answer", "overflow")),
    st.sampled_from(
        (
            *("compact", "compact", "compact", "compact", "begin", "carry_out"),
            *("undo", "undo", "redo", "pin", "release", "recompile"),
        )
    ),
)
SHARES: Final = (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)
NEW_SYSTEM: Final = System(text="You are a fork.", agent_version=2, blocks={})
GOALS: Final = (10, 20, 40, 80, 8000)


@dataclass(frozen=True, slots=True)
class Planned:
    """A compaction that somebody is at: by whom it is wanted, and what it comes to."""

    compaction_id: str
    plan: Plan | NoPlan
    effect: Compact | None


@dataclass(slots=True, repr=False)
class Compacted(History):
    """A conversation whose window is small: runs compact it, and people do."""

    planned: list[Planned] = field(default_factory=list[Planned])
    seed: Conversation = field(default_factory=lambda: conversation.initial)

    def happen(self, move: Move | Shrinking) -> None:
        """Have something happen, if it may."""
        own: dict[str, Callable[[], object]] = {
            "turn": self.turn,
            "answer": self.answer,
            "begin": self.begin,
            "carry_out": self.carry_out,
            "compact": self.compact,
            "undo": self.undo,
            "redo": self.redo,
            "pin": lambda: self.pin(pinned=True),
            "release": lambda: self.pin(pinned=False),
            "recompile": lambda: self.attempt(RecompileSystem(self.system(), "asked for")),
            "overflow": self.overflow,
        }
        if move in own:
            own[move]()
        else:
            self.move(move)  # type: ignore[arg-type]

    # --- runs -----------------------------------------------------------------------------

    def turn(self) -> None:
        """Have a message said, and most of what follows from it done."""
        self.gated = self.draw(st.sampled_from(((), (), ("weather",))))
        self.move("say")
        for _ in range(self.draw(st.sampled_from((40, 40, 40, 8)))):
            self.work()
            if self.state.next_run is None:
                return

    def perform(self, effect: Effect) -> None:
        """Do what a run is owed."""
        if isinstance(effect, Compact):
            self.make_room(effect)
        else:
            History.perform(self, effect)

    def make_room(self, effect: Compact) -> None:
        """Begin to compact, or carry out what is begun, unless a person is at it."""
        mine = [one for one in self.planned if one.effect == effect]
        if mine:
            self.planned.remove(mine[0])
            self.attempt(self.outcome(mine[0]))
        else:
            self._plan(effect)
            # A person who is at it does not leave everybody waiting.
            self.carry_out() if self.state.window.compacting is None else None

    def overflow(self) -> None:
        """Have the model say that there is no room for a step, if it has said nothing yet."""
        run = self.state.next_run
        if run is None or run.step is None or self.held != (run.run_id, run.epoch):
            return
        events = (fact.event for fact in self.facts)
        if not any(isinstance(one, StepDelta) and one.s == run.step.s for one in events):
            self.attempt(SupersedeStep(run.run_id, run.epoch, run.step.s, "context_exceeded"))

    def answer(self) -> None:
        """Answer all calls that wait for the client."""
        asked = self.state.asked
        if asked is None:
            return
        answers = tuple(
            ToolAnswer(tool_call_id=one, tool_return=self.draw(WORDS))
            if self.draw(st.booleans())
            else Approval(tool_call_id=one, approve=self.draw(st.booleans()))
            for one in asked.gated
        )
        approval = NewApproval(self.new(MESSAGE), self.new("x")[2:], answers)
        request, run_id = self.draw(REQUESTS), self.new(RUN)
        self.attempt(QueueRun(run_id, request, (), "enqueue", BODY_HASH + run_id, (), (), approval))
        for _ in range(self.draw(st.integers(0, 6))):
            self.work()

    # --- windows --------------------------------------------------------------------------

    def system(self) -> System:
        """Compile a prompt anew."""
        return System(text=f"You are kind. {self.draw(WORDS)}", agent_version=1, blocks={})

    def _plan(self, effect: Compact | None) -> bool:
        """Begin a compaction; tell whether it has begun."""
        plan = plan_of(
            window_of(self.line),
            bonds_of(self.state),
            self.draw(st.sampled_from(MODES)),
            share=self.draw(st.sampled_from(SHARES)),
            context_window=self.draw(st.sampled_from(GOALS)),
        )
        compaction_id = self.new(COMPACTION)
        command = begin(compaction_id)
        if effect is not None:
            command = begin(
                compaction_id,
                trigger=effect.trigger,
                run_id=effect.run_id,
                epoch=effect.epoch,
                s=effect.s,
            )
        begun = self.attempt(command)
        if begun:
            self.planned.append(Planned(compaction_id, plan, effect))
        return begun

    def outcome(self, one: Planned) -> RecordCompaction | FailCompaction:
        """Say what a compaction comes to; some of those that might be recorded fail."""
        reason: CompactionFailure = "summariser_failed"
        if isinstance(one.plan, NoPlan):
            reason = one.plan.failure
        elif self.draw(st.sampled_from((True, True, True, True, False))):
            return RecordCompaction(
                carried_out(
                    one.compaction_id,
                    one.plan,
                    trigger="manual" if one.effect is None else one.effect.trigger,
                    run_id=None if one.effect is None else one.effect.run_id,
                    system=None if one.effect is None else self.system(),
                )
            )
        return FailCompaction(
            WindowCompactionFailed(compaction_id=one.compaction_id, reason=reason)
        )

    def begin(self) -> bool:
        """Begin a compaction by hand."""
        return self._plan(None)

    def carry_out(self) -> None:
        """Carry out the compaction that was begun last."""
        if self.planned:
            self.attempt(self.outcome(self.planned.pop()))

    def compact(self) -> None:
        """Compact by hand, at once."""
        if self.begin():
            self.carry_out()

    def undo(self) -> None:
        """Undo a compaction, whichever."""
        if known := [*self.state.window.compactions]:
            self.attempt(UndoCompaction(self.draw(st.sampled_from(known))))

    def undo_own(self) -> None:
        """Undo a compaction that the run under way has led to."""
        run = self.state.first_run
        for key, one in self.state.window.compactions.items():
            if run is not None and one.run_id == run.run_id:
                self.attempt(UndoCompaction(key))

    def redo(self) -> None:
        """Redo a compaction, whichever."""
        if known := [*self.state.window.compactions]:
            compaction_id = self.draw(st.sampled_from(known))
            message_ids = leaving_with(self.line, compaction_id)
            self.attempt(RedoCompaction(compaction_id, message_ids))

    def pin(self, *, pinned: bool) -> None:
        """Pin a message that is in the window, or let one go."""
        ids = [item.message_id for item in window_of(self.line).items]
        if known := ids if pinned else sorted(self.state.window.pinned):
            self.attempt(PinMessage(self.draw(st.sampled_from(known)), pinned))


def leaving_with(facts: Facts, compaction_id: str) -> tuple[str, ...]:
    """Name the messages that left the window with a recorded compaction."""
    (place,) = (
        place
        for place, one in enumerate(facts)
        if isinstance(one.event, WindowCompacted) and one.event.compaction_id == compaction_id
    )
    after, before = window_of(facts[: place + 1]), window_of(facts[:place])
    gone = {item.offset for item in before.items} - {item.offset for item in after.items}
    return tuple(item.message_id for item in before.items if item.offset in gone)


def drawn(draw: st.DrawFn) -> Compacted:
    """Draw a conversation."""
    history = Compacted(draw, context_window=draw(st.sampled_from((100, 100, 100, 400, 8000, 0))))
    history.do(start)
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 3))):
            history.turn()
        history.compact()
        for move in draw(st.lists(MOVES, max_size=8)):
            history.happen(move)
    return history


def go_on(draw: st.DrawFn, history: Compacted) -> None:
    """Have all kinds of things happen in a conversation that has begun."""
    for _ in range(draw(st.integers(0, 2))):
        history.turn()
    for move in draw(st.lists(MOVES, max_size=8)):
        history.happen(move)


def forked(draw: st.DrawFn, history: Compacted, n: int) -> Compacted:
    """Fork a conversation after its offset `n`; nothing but what that needs is in the fork."""
    known = history.facts[:n]
    state = folded(known, conversation.initial if not history.before else history.seed)
    parent = Parent(conversation_id=history.stream, at=n, hash="00")
    seed = seed_of(state, parent)
    depth = len(seed.lineage.ancestors)
    fork = Compacted(
        draw,
        state=seed,
        seed=seed,
        stream=f"conv-{depth:08}-ffff-4fff-8fff-ffffffffffff",
        before=[*history.before, *known],
        context_window=history.context_window,
        ids=history.ids + 1000 * depth,
    )
    fork.do(StartConversation(start.agent_id, NEW_SYSTEM, start.settings, parent))
    return fork


def folded(facts: Facts, state: Conversation) -> Conversation:
    """Fold a state as a process does that has just come to know the conversation."""
    for fact in facts:
        state = conversation.evolve(state, fact.event, fact.version)
    return state


@st.composite
def forks(draw: st.DrawFn, *, later: bool = False) -> tuple[Compacted, Compacted]:
    """Draw a conversation and a fork of it, fresh or `later`; the first may be a fork itself."""
    parent = drawn(draw)
    for _ in range(draw(st.integers(0, 2))):
        parent = forked(draw, parent, draw(st.integers(1, len(parent.facts))))
        go_on(draw, parent)
    fork = forked(draw, parent, draw(st.integers(1, len(parent.facts))))
    if later:
        go_on(draw, fork)
    return parent, fork


@st.composite
def compacted_histories(draw: st.DrawFn) -> Facts:
    """Draw a conversation's facts."""
    return drawn(draw).facts


# What goes wrong is shown by the test, not by printing all of this.
@dataclass(frozen=True, repr=False)
class Situation:
    """A conversation in the middle of things, about to be compacted."""

    facts: Facts
    state: Conversation
    window: Window
    bonds: Bonds


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw a conversation at a moment at which somebody may want its window smaller."""
    history = drawn(draw)
    window = window_of(history.facts)
    return Situation(history.facts, history.state, window, bonds_of(history.state))
