"""Whatever is forked, taken back and deleted: what is found anywhere is what living lists show, once."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.storage.integrity import rebuild_tables
from domain.agent import AgentSettings, CreateAgent
from domain.conversation import (
    ConversationDeleted,
    ConversationSettings,
    ConversationStarted,
    Lineage,
    MessageAppended,
    Parent,
    WindowRolledBack,
)
from domain.event import Event, Recorded
from domain.run import StepStarted
from domain.streams import AGENT, CONVERSATION, MESSAGE, id_of, system_message_id
from projections.listing import left_out, messages_of
from projections.marks import marks_of
from projections.wire import Message
from tests.app.serving import Server, serving
from tests.examples import (
    MODEL,
    OTID,
    RUN_ID,
    SYSTEM,
    finished,
    part,
    step_finished,
    step_started,
)

Place: TypeAlias = tuple[str, int]
Listed: TypeAlias = dict[Place, list[Message]]

# What is done, to which conversation, and where: reduced to what there is then.
Deed: TypeAlias = tuple[str, int, int]
SAY: Final[Deed] = ("say", -1, 0)


def deeds(*kinds: str) -> st.SearchStrategy[Deed]:
    return st.tuples(st.sampled_from(kinds), st.integers(0, 6), st.integers(0, 9))


anything: Final = deeds(
    *("say", "say", "fork", "fork", "delete", "begin reply", "end reply"),
    *("take back", "reset", "begin"),
)
# A lineage of some length, of which much is deleted in the end.
lineages: Final = st.lists(st.tuples(st.just(SAY), st.just(SAY), deeds("fork")), max_size=3)
plans: Final = st.tuples(
    lineages.map(lambda parts: [deed for part in parts for deed in part]),
    st.lists(anything, min_size=4, max_size=12),
    st.lists(deeds("delete"), max_size=4),
).map(lambda parts: [deed for part in parts for deed in part])


@dataclass
class Told:
    """A conversation as it was written."""

    stream: str
    parent: Parent | None = None
    generation: int = 0
    hidden: bool = False
    deleted: bool = False
    open_step: int | None = None
    facts: list[Recorded[Any]] = field(default_factory=list[Recorded[Any]])


@dataclass
class Family:
    """Conversations of one agent, written without the server's own decisions."""

    server: Server
    agent_id: str
    members: dict[str, Told] = field(default_factory=dict[str, Told])

    # --- what happens ---------------------------------------------------------------------

    async def do(self, what: str, which: int, where: int) -> None:
        alive = [one for one in self.members.values() if not one.deleted]
        if what == "delete" and len(alive) == 1:
            return
        # The oldest are deleted and the newest forked, so that there are long lineages with gaps.
        which = {"delete": which % 2, "fork": -1 - which % 2}.get(what, which)
        told = alive[which % len(alive)]
        match what:
            # While a reply is under way, nothing else comes into a conversation.
            case "say" if told.open_step is None:
                # A run's end says in the tables that something was said.
                await self.append(told, self._message(), finished(epoch=None))
            case "begin reply" if told.open_step is None:
                message_id = id_of(MESSAGE, uuid4())
                event = step_started().model_copy(update={"message_id": message_id})
                told.open_step = (await self.append(told, event))[0].version
            case "end reply" if told.open_step is not None:
                await self.append(told, part(told.open_step, self._word()))
                await self.append(told, step_finished(told.open_step), finished(epoch=None))
                told.open_step = None
            case "fork":
                at = len(told.facts) - where % len(told.facts)
                parent = Parent(conversation_id=told.stream, at=at, hash="00")
                await self.begin(parent, told.generation + 1, hidden=where % 5 == 4)
            case "begin":
                await self.begin()
            case "take back":
                ids = [*_message_ids(self.line(told))]
                gone = tuple(ids[where % len(ids) :][:1]) if ids else ()
                await self.append(told, WindowRolledBack(run_ids=(), message_ids=gone))
            case "reset":
                through = len(told.facts)
                event = WindowRolledBack(run_ids=(), message_ids=(), through=through)
                await self.append(told, event)
            case "delete":
                await self.append(told, ConversationDeleted())
                told.deleted = True
            case _:
                pass

    async def begin(
        self, parent: Parent | None = None, generation: int = 0, *, hidden: bool = False
    ) -> None:
        told = Told(id_of(CONVERSATION, uuid4()), parent, generation, hidden)
        started = ConversationStarted(
            agent_id=self.agent_id, system=SYSTEM, settings=ConversationSettings(hidden=hidden)
        )
        self.members[told.stream] = told
        more = {} if parent is None else {"parent": parent}
        await self.append(told, started.model_copy(update=more))

    async def append(self, told: Told, *events: Event) -> list[Recorded[Any]]:
        log = self.server.services.log
        facts = await log.append(told.stream, len(told.facts), events, "user")
        told.facts += facts
        return facts

    def _word(self) -> str:
        return f"lantern{uuid4().hex}"

    def _message(self) -> MessageAppended:
        return MessageAppended(
            message_id=id_of(MESSAGE, uuid4()),
            otid=OTID,
            role="user",
            content=self._word(),
            run_id=RUN_ID,
        )

    # --- what is to be seen of it, folded from whole lineages ----------------------------

    def lineage(self, told: Told) -> Lineage:
        if told.parent is None:
            return Lineage()
        return self.lineage(self.members[told.parent.conversation_id]).forked(told.parent)

    def line(self, told: Told) -> list[Recorded[Any]]:
        lineage = self.lineage(told)
        facts = [
            fact for one in lineage.ancestors for fact in self.members[one.stream].facts[: one.at]
        ]
        return [*map(lineage.placed, [*facts, *told.facts])]

    def lists(self, told: Told) -> Listed:
        """Give what a conversation's list shows, by where it is stored."""
        lineage, line = self.lineage(told), self.line(told)
        marks = marks_of(line)
        prompts = {system_message_id(one.stream) for one in lineage.ancestors}
        shown: Listed = {}
        for place, items in messages_of(line, left_out(marks) | prompts):
            stream, offset = lineage.named(place)
            if place == 1 or not marks.unlists(place):
                shown[stream or told.stream, offset] = items
        return shown

    def everything(self, *, hidden: bool = False) -> Listed:
        """Give what any living conversation lists."""
        found: Listed = {}
        for one in self.members.values():
            if not one.deleted and (hidden or not one.hidden):
                found = {**self.lists(one), **found}
        return found

    def holder(self, place: Place) -> str:
        """Name the conversation in which a message counts as said."""
        has = [
            one
            for one in self.members.values()
            if not (one.deleted or one.hidden) and place in self.lists(one)
        ]
        return min(has, key=lambda one: self._rank(one, place[0])).stream

    def _rank(self, told: Told, stream: str) -> tuple[Any, ...]:
        if told.stream == stream:
            return (0,)
        (upto,) = [one.at for one in self.lineage(told).ancestors if one.stream == stream]
        return 1, -upto, told.generation, told.facts[0].at, told.stream

    def in_order(self, listed: Listed) -> list[Message]:
        places = sorted(listed, key=lambda one: (self._at(*one), *one))
        return [item for place in places for item in listed[place]]

    def _at(self, stream: str, offset: int) -> Any:
        return self.members[stream].facts[offset - 1].at

    def texts(self) -> Iterator[tuple[str, Place]]:
        """Give every word that was said, and the place of its message."""
        for told in self.members.values():
            for fact in told.facts:
                event = fact.event
                if event.type == "message.appended":
                    yield event.content, (told.stream, fact.version)
                if event.type == "step.part":
                    yield event.text, (told.stream, event.s)


def _message_ids(line: list[Recorded[Any]]) -> Iterator[str]:
    for fact in line:
        if isinstance(fact.event, MessageAppended | StepStarted):
            yield fact.event.message_id


# --- what is to hold ----------------------------------------------------------------------------


async def check(family: Family) -> None:
    server, agent_id = family.server, family.agent_id
    expected = family.everything()
    shown = family.in_order(expected)
    mine = {item["id"] for item in shown}
    path = f"/v1/agents/{agent_id}/messages"
    if shown:  # else there is the prompt that the agent's own conversation would begin with
        assert await walked(server, path, order="asc", limit=3) == shown
        assert [*reversed(await walked(server, path, limit=3))] == shown
    everywhere = await server.get("/v1/messages/", order="asc", limit=1000)
    known = {system_message_id(one) for one in family.members} | {
        one for told in family.members.values() for one in _message_ids(told.facts)
    }
    assert [one for one in everywhere if one["id"] in known] == shown
    by_id = family.everything(hidden=True)
    for one in sorted(known):
        answer = await server.http.get(f"/v1/messages/{one}")
        there = [items for items in by_id.values() if items[0]["id"] == one]
        assert (answer.json() if answer.status_code == 200 else None) == next(iter(there), None)
        assert (one in mine) <= (answer.status_code == 200)
    for word, place in family.texts():
        found = await searched(server, word, agent_id=agent_id)
        assert found == ([(family.holder(place), place)] if place in expected else [])
        assert await searched(server, word) == found
    for told in family.members.values():
        await check_within(family, told)


async def check_within(family: Family, told: Told) -> None:
    """Search in one conversation, whatever others have."""
    if told.deleted:
        return
    shown = family.lists(told)
    for word, place in family.texts():
        found = await searched(family.server, word, conversation_id=told.stream)
        assert found == ([(told.stream, place)] if place in shown else [])


async def walked(server: Server, path: str, **query: Any) -> list[Message]:
    """Page through a list by the last item of each page."""
    items: list[Message] = []
    while page := await server.get(path, **query):
        items += page
        query["after"] = items[-1]["id"]
    return items


async def searched(server: Server, word: str, **where: str) -> list[tuple[str, Place]]:
    """Search; give for each hit the conversation that has it, and the place where it is stored."""
    # In quotes: what stands beside a word is found, too.
    query = {"query": f'"{word}"', **where}
    answer = await server.http.post("/v1/messages/search", json=query)
    assert answer.status_code == 200, answer.text
    return [
        (hit["conversation_id"], (hit.get("stream") or hit["conversation_id"], hit["offset"]))
        for hit in answer.json()
    ]


async def happens(server: Server, plan: list[Deed]) -> Family:
    agent_id = id_of(AGENT, uuid4())
    await server.services.execute(agent_id, CreateAgent(AgentSettings(name="g", model=MODEL)), "u")
    family = Family(server, agent_id)
    await family.begin()
    for one in plan:
        await family.do(*one)
    return family


@pytest.mark.slow
def test_what_any_living_conversation_lists_is_found_everywhere_and_once(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        context = serving(tmp_path / "a.db", runs_at_once_max=0)
        server = runner.run(context.__aenter__())

        @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(plans)
        def holds(plan: list[Deed]) -> None:
            family = runner.run(happens(server, plan))
            runner.run(check(family))
            rebuild_tables(server.services.log.store)
            runner.run(check(family))

        try:
            holds()
        finally:
            runner.run(context.__aexit__(None, None, None))
