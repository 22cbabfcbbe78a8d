"""Whatever happens to appends, a stream is 1…n without gaps, chained, and what was acknowledged.

And the read tables, written again from the log, are what they were.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.storage.committing
from app.log import Log, StoreUnavailable, VersionConflict
from app.mapper import Row, revive
from app.storage.integrity import rebuild_tables, verify_all, verify_stream
from app.storage.store import Store
from domain.agent import AgentChanged, AgentCreated, AgentDeleted, AgentSettings
from domain.block import BlockChanged, BlockCreated, BlockDeleted, BlockSettings
from domain.conversation import ConversationChanged, ConversationDeleted
from domain.event import Event
from projections.tables import TABLES
from tests import examples
from tests.app.faults import Fault, FaultyStore
from tests.databases import opened

STREAMS = [
    f"{kind}-{n}1111111-1111-4111-8111-111111111111" for kind in ("conv", "agent") for n in "12"
]
texts = st.text(max_size=8)


def changed_block(value: str) -> Event:
    return BlockChanged(base_version=1, value=value)


def created_block(value: str) -> Event:
    return BlockCreated(settings=BlockSettings(label="l", value=value))


def created_agent(name: str) -> Event:
    return AgentCreated(settings=AgentSettings(name=name, model="demo/echo"))


def changed_agent(words: str) -> Event:
    return AgentChanged(description=words, tags=(words,))


def changed_conversation(words: str) -> Event:
    return ConversationChanged(summary=words, archived=bool(words))


def nothing(_: int) -> None:
    """Watch no progress."""


events: st.SearchStrategy[Event] = st.one_of(
    texts.map(changed_block),
    texts.map(created_block),
    st.just(BlockDeleted()),
    texts.map(created_agent),
    texts.map(changed_agent),
    st.just(AgentDeleted()),
    texts.map(changed_conversation),
    st.just(ConversationDeleted()),
)
# Facts that make ids known stay in one stream: an id is drawn once, for one conversation.
naming: st.SearchStrategy[Event] = st.sampled_from(
    [
        examples.started,
        examples.queued(keys=("otid:1",)),
        examples.queued(examples.NEXT_RUN_ID),
        examples.claimed(),
        examples.finished(),
        examples.appended(),
        examples.waiting(),
    ]
)
offsets = st.sampled_from([0, 0, 0, 0, -1, 1])
# An append: which stream, how far its expectation is off, its facts.
append = st.one_of(
    st.tuples(st.sampled_from(STREAMS), offsets, st.lists(events, min_size=1, max_size=3)),
    st.tuples(st.just(STREAMS[0]), offsets, st.lists(naming, min_size=1, max_size=3)),
)
batches = st.lists(st.lists(append, min_size=1, max_size=6), min_size=1, max_size=5)
fault_lists = st.lists(st.sampled_from(["none", "none", "before", "after"]), max_size=12)
quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def play(path: Path, rounds: Any, faults: list[Fault]) -> dict[tuple[str, int], Event]:
    """Append in rounds, the log opened anew for each; give what was acknowledged."""
    acknowledged: dict[tuple[str, int], Event] = {}
    for batch in rounds:
        async with Log(FaultyStore(path, faults)) as log:
            heads = {one: (await log.head(one) or (0, b""))[0] for one in STREAMS}
            waiting: list[Any] = []
            for stream, off, facts in batch:
                # Pipelined: each expects what the ones before it in the round would make.
                expected = max(0, heads[stream] + off)
                waiting.append(log.append(stream, expected, facts, "user"))
                heads[stream] = expected + len(facts)
            for answer in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(answer, BaseException):
                    assert isinstance(answer, VersionConflict | StoreUnavailable)
                    continue
                for fact in answer:
                    assert (fact.stream, fact.version) not in acknowledged
                    acknowledged[fact.stream, fact.version] = fact.event
            faults = log.store.faults if isinstance(log.store, FaultyStore) else []
    return acknowledged


def rows_of(store: Store) -> list[Row]:
    return [row for stream, _, _ in store.streams() for row in store.read(stream)]


@quick
@given(rounds=batches, faults=fault_lists)
def test_offsets_have_no_gaps_and_the_acknowledged_is_there_unchanged(
    rounds: Any, faults: list[Fault]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.storage.committing, "RETRY_DELAY_S", 0)
        path = Path(folder) / "a.db"
        acknowledged = asyncio.run(play(path, rounds, faults))
        store = opened(path)
        stored = {(row.stream, row.version): revive(row).event for row in rows_of(store)}
        assert all(stored[place] == event for place, event in acknowledged.items())
        for stream, head, _ in store.streams():
            assert [row.version for row in store.read(stream)] == list(range(1, head + 1))
            assert verify_stream(store, stream).ok
        store.close()


def tables_of(store: Store) -> dict[str, list[dict[str, Any]]]:
    return {
        name: store.query(f"SELECT * FROM {name} ORDER BY {', '.join(table.key)}")  # noqa: S608 - our own words
        for name, table in TABLES.items()
    }


@quick
@given(rounds=batches)
def test_read_tables_rebuilt_are_the_live_ones(rounds: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        asyncio.run(play(path, rounds, []))
        store = opened(path)
        live = tables_of(store)
        unreadable = rebuild_tables(store, nothing)
        assert (list(unreadable), tables_of(store)) == ([], live)
        assert all(verdict.ok for _, verdict in verify_all(store, nothing))
        store.close()
