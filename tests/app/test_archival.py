"""Archival memory: what was put in is there once, is found by its words, and is the same rebuilt."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.execute import Execute
from app.log import Log
from app.memory.archival import Archival, Page
from app.storage.integrity import rebuild_tables
from app.storage.sqlite import SQLiteStore
from domain.agent import AgentSettings, CreateAgent, DeleteAgent
from domain.archive import DeletePassage
from domain.errors import NotFound, Refused
from domain.run import Cause
from domain.streams import archive_of
from projections.passages import Wanted
from tests.examples import AGENT_ID, CONVERSATION_ID, MODEL

OTHER_AGENT_ID: Final = "agent-22222222-2222-4222-8222-222222222222"
# Whether something is put in, which, under which tags.
Step: TypeAlias = tuple[bool, int, set[str]]
DAY: Final = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def archival(log: Log) -> Archival:
    execute = Execute(log)
    for agent_id in (AGENT_ID, OTHER_AGENT_ID):
        await execute(agent_id, CreateAgent(AgentSettings(name="guide", model=MODEL)), "user")
    return Archival(log, execute)


async def put(archival: Archival, *texts: str, **more: Any) -> list[str]:
    return [(await archival.insert(AGENT_ID, one, by="user", **more)).passage_id for one in texts]


async def found(archival: Archival, query: str, **wanted: Any) -> list[str]:
    answer = await archival.search(AGENT_ID, query, wanted=Wanted(**wanted))
    return [hit.passage.text for hit in answer.hits]


async def listed(archival: Archival, *, at: int | None = None, **page: Any) -> list[str]:
    return [one.text for one in await archival.list(AGENT_ID, Page(**page), Wanted(at=at))]


async def test_a_passage_is_as_it_was_put_in(archival: Archival) -> None:
    made = await archival.insert(
        AGENT_ID, "a lantern", tags=["x", "é"], created_at=DAY, metadata={"n": [1]}, by="user"
    )
    (kept,) = await archival.list(AGENT_ID)
    assert kept == made
    assert (kept.text, kept.tags, kept.created_at) == ("a lantern", ("x", "é"), DAY)
    assert (kept.metadata, kept.version, kept.archive_id) == (
        {"n": [1]},
        1,
        archive_of(AGENT_ID),
    )


async def test_each_agent_has_an_archive_of_its_own(archival: Archival) -> None:
    await put(archival, "a lantern")
    assert await archival.list(OTHER_AGENT_ID) == []
    assert (await archival.search(OTHER_AGENT_ID, "lantern")).hits == ()
    assert list(await archival.agents(9)) == [AGENT_ID]


async def test_a_passage_with_the_same_cause_is_put_in_once(archival: Archival) -> None:
    cause = Cause(stream=CONVERSATION_ID, offset=7)
    again = [archival.insert(AGENT_ID, "a", cause=cause, by="agent") for _ in range(5)]
    passages = await asyncio.gather(*again)
    assert len({one.passage_id for one in passages}) == 1
    other = Cause(stream=CONVERSATION_ID, offset=7, n=1)
    await archival.insert(AGENT_ID, "a", cause=other, by="agent")
    assert await listed(archival) == ["a", "a"]


async def test_a_cause_is_known_after_any_number_of_others_and_a_delete(archival: Archival) -> None:
    first = await archival.insert(AGENT_ID, "first", key="k", by="user")
    await archival.delete(AGENT_ID, first.passage_id, by="user")
    for number in range(300):
        await archival.insert(AGENT_ID, f"{number}", by="user")
    again = await archival.insert(AGENT_ID, "first", key="k", by="user")
    assert again.passage_id == first.passage_id
    assert "first" not in await listed(archival, limit=1000)


async def test_what_no_database_keeps_is_replaced(archival: Archival) -> None:
    (passage_id,) = await put(archival, "half \ud83d and \0", tags=["t\0"])
    kept = await archival.passage(AGENT_ID, passage_id)
    assert (kept.text, kept.tags) == ("half ? and \ufffd", ("t\ufffd",))


async def test_passages_are_listed_in_order_of_their_time(archival: Archival) -> None:
    for text, days in (("b", 2), ("c", 3), ("a", 1)):
        await put(archival, text, created_at=DAY + timedelta(days=days))
    assert await listed(archival) == ["a", "b", "c"]
    assert await listed(archival, ascending=False, limit=2) == ["c", "b"]


async def test_cursors_walk_a_list_forwards_and_backwards(archival: Archival) -> None:
    ids = await put(archival, *"abcdef")
    assert await listed(archival, after=ids[1], limit=2) == ["c", "d"]
    assert await listed(archival, before=ids[4], limit=2) == ["c", "d"]
    assert await listed(archival, after=ids[0], before=ids[3]) == ["b", "c"]
    assert await listed(archival, after=ids[2], ascending=False) == ["b", "a"]
    assert await listed(archival, after=ids[5]) == []


async def test_a_cursor_may_have_been_taken_out_but_must_have_been_there(
    archival: Archival,
) -> None:
    ids = await put(archival, *"abc")
    await archival.delete(AGENT_ID, ids[1], by="user")
    assert await listed(archival, after=ids[1]) == ["c"]
    with pytest.raises(NotFound):
        await listed(archival, after="passage-x")


async def test_a_list_is_narrowed_to_what_contains_a_text(archival: Archival) -> None:
    await put(archival, "A Lantern", "100% wax", "a_b")
    assert await listed(archival, containing="lanTERN") == ["A Lantern"]
    assert await listed(archival, containing="0%") == ["100% wax"]
    assert await listed(archival, containing="'") == []


async def test_passages_are_found_by_their_words_and_ranked_each_by_itself(
    archival: Archival,
) -> None:
    await put(
        archival,
        "The lanterns hang in the cellar, beside the coal.",
        "Coal is delivered on Mondays.",
        "Ida takes the train.",
        "Nothing of the kind.",
    )
    assert await found(archival, "Where is the lantern and the coal?") == [
        "The lanterns hang in the cellar, beside the coal.",
        "Coal is delivered on Mondays.",
    ]
    assert await found(archival, '"in the cellar"') == [
        "The lanterns hang in the cellar, beside the coal."
    ]
    assert await found(archival, "xylophone") == []


async def test_a_mistaken_word_is_mended_and_told(archival: Archival) -> None:
    await put(archival, "a lantern")
    answer = await archival.search(AGENT_ID, "lantren")
    assert [hit.passage.text for hit in answer.hits] == ["a lantern"]
    assert [(one.word, one.instead) for one in answer.corrections] == [("lantren", "lantern")]


async def test_a_search_is_narrowed_by_tags_and_time(archival: Archival) -> None:
    await put(archival, "red wax", tags=["wax", "red"], created_at=DAY)
    await put(archival, "blue wax", tags=["wax"], created_at=DAY + timedelta(days=1))
    assert await found(archival, "wax", tags=["red", "none"]) == ["red wax"]
    assert await found(archival, "wax", tags=["red", "wax"], match="all") == ["red wax"]
    assert await found(archival, "wax", tags=["blue"]) == []
    assert await found(archival, "wax", since=DAY + timedelta(hours=1)) == ["blue wax"]
    assert await found(archival, "wax", until=DAY + timedelta(days=1)) == ["red wax"]


async def test_a_question_without_words_gives_the_newest(archival: Archival) -> None:
    await put(archival, "a", tags=["t"])
    await put(archival, "b", "c")
    answer = await archival.search(AGENT_ID, " ", 2)
    assert ([hit.passage.text for hit in answer.hits], answer.mode) == (["c", "b"], "newest")
    assert await found(archival, "", tags=["t"]) == ["a"]


async def test_what_was_taken_out_is_neither_listed_nor_found_but_was_there(
    archival: Archival,
) -> None:
    ids = await put(archival, "a lantern", "a candle")
    await archival.delete(AGENT_ID, ids[0], by="user")
    assert await listed(archival) == ["a candle"]
    assert await found(archival, "lantern") == []
    assert await listed(archival, at=1) == ["a lantern"]
    assert await listed(archival, at=2) == ["a lantern", "a candle"]
    assert await listed(archival, at=3) == ["a candle"]
    with pytest.raises(NotFound):
        await archival.delete(AGENT_ID, ids[0], by="user")


async def test_two_who_take_out_the_same_passage_take_out_one(archival: Archival, log: Log) -> None:
    ids = await put(archival, "a", "b")
    execute = Execute(log)
    again = DeletePassage(ids[0])
    await asyncio.gather(*(execute(archive_of(AGENT_ID), again, "user") for _ in range(3)))
    assert (await execute.archive(archive_of(AGENT_ID))).passages == 1


async def test_nothing_is_put_in_for_an_agent_that_is_not_there(
    archival: Archival, log: Log
) -> None:
    with pytest.raises(NotFound):
        await archival.insert(f"{AGENT_ID[:-1]}9", "a", by="user")
    await put(archival, "a")
    await archival.end(AGENT_ID, by="user")
    await Execute(log)(AGENT_ID, DeleteAgent(), "user")
    with pytest.raises(NotFound):
        await put(archival, "b")
    assert list(await archival.agents(9)) == []


async def test_what_does_not_fit_is_refused(archival: Archival) -> None:
    with pytest.raises(Refused):
        await put(archival, " ")


async def test_rebuilt_tables_equal_the_live_ones(archival: Archival, log: Log) -> None:
    ids = await put(archival, "a lantern", "a candle", tags=["t"], metadata={"a": 1})
    await archival.delete(AGENT_ID, ids[0], by="user")
    everything = "SELECT * FROM passages ORDER BY passage_id"
    live = await log.query(everything)
    await log.in_writer(lambda: rebuild_tables(log.store))
    assert await log.query(everything) == live
    assert len(live) == 2
    assert await found(archival, "candle") == ["a candle"]


STEPS: Final = st.lists(
    st.tuples(st.booleans(), st.integers(0, 9), st.sets(st.sampled_from("xyz"))), max_size=25
)


@pytest.mark.sqlite
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_an_archive_at_any_offset_is_what_came_and_went_by_then(steps: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        shown, expected = asyncio.run(_came_and_went(Path(folder) / "a.db", steps))
    assert shown == expected


async def _came_and_went(path: Path, steps: list[Step]) -> tuple[list[Any], list[Any]]:
    """Put in and take out at random, with calls that come twice, beside plain sets.

    Give what was there at each offset, as it is listed and as the sets have it.
    """
    async with Log(SQLiteStore(path)) as log:
        execute = Execute(log)
        await execute(AGENT_ID, CreateAgent(AgentSettings(name="guide", model=MODEL)), "user")
        archival = Archival(log, execute)
        there: dict[str, set[str]] = {}
        history = [frozenset[str]()]
        known: set[str] = set()
        for inserts, number, tags in steps:
            key = f"{number}"
            if inserts:
                one = await archival.insert(
                    AGENT_ID, f"n{number}", tags=sorted(tags), key=key, by="user"
                )
                if one.passage_id in known:
                    continue
                known.add(one.passage_id)
                there[one.passage_id] = tags
            elif there:
                gone = sorted(there)[number % len(there)]
                await archival.delete(AGENT_ID, gone, by="user")
                del there[gone]
            else:
                continue
            history.append(frozenset(there))
        shown = [
            frozenset(one.passage_id for one in await archival.list(AGENT_ID, wanted=Wanted(at=at)))
            for at in range(1, len(history))
        ]
        state = await execute.archive(archive_of(AGENT_ID))
        assert state.passages == len(there)
        assert state.tags == Counter(tag for tags in there.values() for tag in tags)
        live = await log.query("SELECT * FROM passages ORDER BY passage_id")
        await log.in_writer(lambda: rebuild_tables(log.store))
        assert await log.query("SELECT * FROM passages ORDER BY passage_id") == live
        return shown, history[1:]
