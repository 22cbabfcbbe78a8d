"""A long conversation as its runs would have written it, but in bulk: no model is asked for replies.

Every turn is a run with its claim, its step, the deltas of the reply, its parts and its end; some call
a tool first. Compactions are the product's own, of the window as it then is, by the demo model; their
facts are as large as real ones.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Final

from app.compaction.settings import CompactionSettingsIn
from app.log import Log
from app.settings import load
from app.wiring import services_of
from domain.agent import AgentSettings, CreateAgent
from domain.conversation import ConversationSettings, MessageAppended, StartConversation
from domain.event import Event, Recorded
from domain.run import (
    CalledTool,
    Manifest,
    RunClaimed,
    RunFinished,
    RunQueued,
    RunRequest,
    RunUsage,
    Span,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    ToolFinished,
    ToolStarted,
    Usage,
)
from domain.streams import AGENT, CONVERSATION, MESSAGE, RUN, STEP, derived_id, otid_of
from tests.examples import BODY_HASH, SYSTEM

MODEL: Final = "demo/echo"
NODE: Final = "node-1"
BY: Final = f"worker:{NODE}"
CONTEXT_WINDOW: Final = 128_000
USAGE: Final = Usage(input_tokens=90_000, output_tokens=90, cached_input_tokens=80_000)
EPOCH: Final = 1
# One turn of so many calls a tool, which is two messages more.
TOOL_EVERY: Final = 10
DELTAS_A_REPLY: Final = 6
ASKED_WORDS: Final = 25
SAID_WORDS: Final = 65
SENTENCE_WORDS: Final = 12
TURNS_AT_ONCE: Final = 100
_TEXT: Final = (
    "after all also answer ask back because before begin better between build call change close come "
    "could cut day different draw each earlier end enough even every far few find first follow give "
    "good grow half hand help home house idea keep kind know large last later learn leave less letter "
    "light line little live long look make mean might more morning most move much must name near need "
    "never new next night number often old only open other over own page paper part people place plan "
    "point put question quick read right river road room run same say school second see set show side "
    "small some sound spell stand start state still stop story study such take talk tell than thing "
    "think time together tree try turn under until use very wait walk want watch water week well while "
    "white whole why wind word work world would write year young"
)
_COMMON: Final = _TEXT.split()
_PLACES: Final = (
    "Ulm",
    "Linz",
    "Graz",
    "Basel",
    "Bremen",
    "Leeds",
    "Porto",
    "Turin",
    "Delft",
    "Gent",
)


@dataclass(slots=True)
class Talk:
    """A conversation that grows; `compacted` are the offsets of its compactions."""

    log: Log
    stream: str
    version: int
    turns: int = 0
    messages: int = 0
    compacted: list[int] = field(default_factory=list[int])

    async def go_on(self, messages: int) -> None:
        """Have so many more messages said, or one or two more than that."""
        until = self.messages + messages
        while self.messages < until:
            turns = min(TURNS_AT_ONCE, (until - self.messages + 3) // 4)
            await asyncio.gather(*(self._say_next() for _ in range(turns)))

    def _say_next(self) -> asyncio.Future[list[Recorded[Any]]]:
        turn = Turn(self.turns, self.version)
        events = list(turn.events())
        expected, self.version = self.version, self.version + len(events)
        self.turns += 1
        self.messages += turn.messages
        return self.log.append(self.stream, expected, events, BY)

    async def compact(self) -> None:
        """Have the window compacted, as for a person."""
        # Parts that were made before do not know what was appended past them.
        services = services_of(load(node=NODE), self.log)
        done = await services.compactor.compact(self.stream, CompactionSettingsIn())
        assert done.fact is not None, done.failure
        self.version = done.fact.version
        self.compacted.append(self.version)


async def begun(log: Log, name: str) -> Talk:
    """Begin a conversation with an agent of its own."""
    execute = services_of(load(node=NODE), log).execute
    agent_id, stream = derived_id(AGENT, name), derived_id(CONVERSATION, name)
    await execute(agent_id, CreateAgent(AgentSettings(name=name, model=MODEL)), BY)
    settings = ConversationSettings(context_window_limit=CONTEXT_WINDOW)
    facts = await execute(stream, StartConversation(agent_id, SYSTEM, settings), BY)
    return Talk(log, stream, facts[-1].version)


class Turn:
    """Turn number `number`: what was asked and what was answered, after so many facts."""

    def __init__(self, number: int, version: int) -> None:
        self._random = random.Random(number)
        self._number = number
        self._before = version
        self._run_id = derived_id(RUN, f"{number}")
        self._events: list[Event] = []
        self.calls = number % TOOL_EVERY == 0
        self.messages = 4 if self.calls else 2

    def events(self) -> list[Event]:
        """Give the facts of its run."""
        self._begin()
        if self.calls:
            self._call_tool()
        self._reply()
        usage = RunUsage(**USAGE.model_dump(), step_count=1 + self.calls, context_tokens=90_090)
        self._add(
            RunFinished(
                run_id=self._run_id,
                epoch=EPOCH,
                status="completed",
                stop_reason="end_turn",
                usage=usage,
            )
        )
        return self._events

    def _add(self, *events: Event) -> int:
        """Add facts; give the version of the first."""
        version = self._before + len(self._events) + 1
        self._events += events
        return version

    def _id(self, prefix: str, what: str) -> str:
        return derived_id(prefix, f"{self._number}/{what}")

    def _begin(self) -> None:
        asked = self._id(MESSAGE, "asked")
        self._add(
            RunQueued(
                run_id=self._run_id, body_hash=BODY_HASH, request=RunRequest(), on_busy="enqueue"
            ),
            MessageAppended(
                message_id=asked,
                otid=otid_of(asked, 0),
                role="user",
                content=self._words(ASKED_WORDS),
                run_id=self._run_id,
            ),
            RunClaimed(
                run_id=self._run_id,
                epoch=EPOCH,
                node=NODE,
                agent_version=1,
                model=MODEL,
                settings={},
                context_window=CONTEXT_WINDOW,
            ),
        )

    def _start_step(self, index: int) -> int:
        first = max(1, self._before - 1000)
        return self._add(
            StepStarted(
                run_id=self._run_id,
                epoch=EPOCH,
                step_id=self._id(STEP, f"{index}"),
                index=index,
                attempt=1,
                message_id=self._id(MESSAGE, f"said/{index}"),
                model=MODEL,
                settings={},
                manifest=Manifest(
                    system_at=1,
                    items=(Span(first=first, last=self._before + 2),),
                    sha256=BODY_HASH,
                    renderer="1",
                    window_at=self._before + 3,
                    tokens=90_000,
                ),
            )
        )

    def _call_tool(self) -> None:
        s = self._start_step(0)
        call = CalledTool(
            id=f"call-{self._number}", name="weather", arguments=f'{{"city": "{self._place()}"}}'
        )
        returned = self._id(MESSAGE, "returned")
        self._add(
            StepPart(s=s, i=0, kind="call", call=call),
            StepFinished(s=s, outcome="ok", parts=1, usage=USAGE, finish_reason="tool_call"),
            ToolStarted(
                s=s,
                run_id=self._run_id,
                epoch=EPOCH,
                tool_call_id=call.id,
                message_id=returned,
                name=call.name,
            ),
            ToolFinished(
                s=s,
                run_id=self._run_id,
                step_id=self._id(STEP, "0"),
                tool_call_id=call.id,
                message_id=returned,
                name=call.name,
                status="ok",
                content=self._words(ASKED_WORDS),
                source="server",
            ),
        )

    def _reply(self) -> None:
        s = self._start_step(int(self.calls))
        text = self._words(SAID_WORDS)
        size = -(-len(text) // DELTAS_A_REPLY)
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        self._add(
            *(StepDelta(s=s, i=0, kind="text", x=piece) for piece in pieces),
            StepPart(s=s, i=0, kind="text", text=text),
            StepFinished(s=s, outcome="ok", parts=1, usage=USAGE, finish_reason="stop"),
        )

    # --- words ----------------------------------------------------------------------------

    def _words(self, count: int) -> str:
        """Give sentences about nothing, with places, dates and amounts in them."""
        sizes = [SENTENCE_WORDS] * (count // SENTENCE_WORDS) + [count % SENTENCE_WORDS]
        return " ".join(self._sentence(size) for size in sizes if size)

    def _sentence(self, count: int) -> str:
        words = self._random.choices(_COMMON, k=count)
        words[0] = words[0].capitalize()
        return f"{' '.join(words)} {self._random.choice(self._things())}."

    def _things(self) -> tuple[str, ...]:
        number, day = self._random.randrange(10_000), self._random.randrange(1, 29)
        return (
            "again",
            "once more",
            f"in {self._place()}",
            f"on {day} May 2026",
            f"for {number} euros",
            f"as in ticket-{number}",
        )

    def _place(self) -> str:
        return self._random.choice(_PLACES)
