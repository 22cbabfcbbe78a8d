"""A model keeps something, and finds it again, in this conversation and in others."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from app.execute import Execute
from app.log import Log
from app.memory.archival import Archival
from app.tools import Call, ToolFailed
from app.tools.archival import ANSWER_CHARS_MAX, ArchivalMemoryInsert, ArchivalMemorySearch
from domain.agent import AgentSettings, CreateAgent
from domain.archive import PassageInserted
from domain.conversation import ConversationSettings, StartConversation
from domain.run import Cause, ToolFinished, ToolStarted
from domain.streams import archive_of
from tests import examples
from tests.app.scripts import calling, saying
from tests.app.serving import Scripted, serving
from tests.examples import AGENT_ID, CONVERSATION_ID

CALL: Final = Call(CONVERSATION_ID, examples.RUN_ID, "call-0", 9, examples.REPLY_ID)


@pytest.fixture
async def archival(log: Log) -> Archival:
    execute = Execute(log)
    settings = AgentSettings(name="guide", model=examples.MODEL, timezone="Asia/Tokyo")
    await execute(AGENT_ID, CreateAgent(settings), "user")
    begun = StartConversation(AGENT_ID, examples.SYSTEM, ConversationSettings())
    await execute(CONVERSATION_ID, begun, "user")
    return Archival(log, execute)


async def insert(archival: Archival, call: Call = CALL, **arguments: Any) -> str:
    return await ArchivalMemoryInsert(archival).run(arguments, call)


async def search(archival: Archival, **arguments: Any) -> str:
    return await ArchivalMemorySearch(archival).run(arguments, CALL)


async def test_what_was_kept_is_found_with_its_time_and_tags(archival: Archival) -> None:
    said = await insert(archival, content="Ida lives in Turin.", tags=["people"])
    assert said.startswith("Kept in archival memory under people as passage-")
    (line,) = (await search(archival, query="Where does Ida live?")).split("\n")
    assert line.endswith(", tags: people] Ida lives in Turin.")
    assert await search(archival, query="xylophone") == "Nothing in archival memory matches."


async def test_times_are_those_of_the_agents_zone(archival: Archival, log: Log) -> None:
    await insert(archival, content="Ida lives in Turin.")
    (row,) = await log.query("SELECT created_at FROM passages")
    (kept,) = await archival.list(AGENT_ID)
    here = kept.created_at.astimezone(await archival.zone_for(CONVERSATION_ID))
    assert here.utcoffset() is not None
    assert f"[{here:%Y-%m-%d %H:%M}]" in await search(archival, query="Ida")
    day = f"{here:%Y-%m-%d}"
    assert "Turin" in await search(archival, query="Ida", start_datetime=day, end_datetime=day)
    assert "Nothing" in await search(archival, query="Ida", end_datetime="2000-01-01")
    assert "Turin" in await search(archival, query="Ida", end_datetime=row["created_at"])


async def test_a_call_that_is_run_again_keeps_it_once(archival: Archival) -> None:
    await insert(archival, content="Ida lives in Turin.")
    later = Call(CONVERSATION_ID, examples.RUN_ID, "call-0", 12, examples.REPLY_ID)
    again = await insert(archival, later, content="Ida lives in Turin.")
    assert again.startswith("Kept in archival memory as passage-")
    assert len(await archival.list(AGENT_ID)) == 1


async def test_a_search_is_narrowed_and_its_mended_words_are_told(archival: Archival) -> None:
    await insert(archival, content="Ida lives in Turin.", tags=["people", "places"])
    assert "Turin" in await search(archival, query="Ida", tags="people")
    both = {"tags": ["people", "other"], "query": "Ida"}
    assert "Turin" in await search(archival, **both)
    assert "Nothing" in await search(archival, **both, tag_match_mode="all")
    told = await search(archival, query="Truin", top_k=1.0)
    assert told.startswith("No passage has 'truin'; searched for 'turin' instead.")


async def test_an_answer_is_bounded_and_says_what_it_leaves_out(archival: Archival) -> None:
    for number in range(3):
        call = Call(CONVERSATION_ID, examples.RUN_ID, "call-0", 20 + number)
        await insert(archival, call, content=f"wax {'word ' * 4000}{number}")
    told = await search(archival, query="wax")
    assert len(told) < ANSWER_CHARS_MAX + 500
    assert " more characters)" in told
    assert told.endswith("(… 1 more; ask for something narrower)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "content: a string"),
        ({"content": " "}, "content: a string"),
        ({"content": "a" * 100_001}, "content: a string"),
        ({"content": "a", "tags": [1]}, "tags: a list"),
        ({"content": "a", "tags": ["t"] * 65}, "tags: a list"),
    ],
)
async def test_what_cannot_be_kept_is_told_to_the_model(
    archival: Archival, arguments: Any, words: str
) -> None:
    with pytest.raises(ToolFailed, match=words):
        await insert(archival, **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "query: a string"),
        ({"query": "a", "top_k": 0}, "top_k: a whole number"),
        ({"query": "a", "top_k": True}, "top_k: a whole number"),
        ({"query": "a", "tag_match_mode": "some"}, "it is any or all"),
        ({"query": "a", "start_datetime": "yesterday"}, "start_datetime: a date"),
        ({"query": "a", "end_datetime": 7}, "end_datetime: a date"),
    ],
)
async def test_what_cannot_be_searched_is_told_to_the_model(
    archival: Archival, arguments: Any, words: str
) -> None:
    with pytest.raises(ToolFailed, match=words):
        await search(archival, **arguments)


async def test_a_full_archive_is_told_to_the_model(
    archival: Archival, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.archive.PASSAGES_MAX", 0)
    with pytest.raises(ToolFailed, match="no more fit in"):
        await insert(archival, content="a")


async def test_an_agent_keeps_in_one_conversation_what_it_finds_in_another(
    tmp_path: Path,
) -> None:
    model = Scripted(
        calling("archival_memory_insert", arguments='{"content": "Ida lives in \\ud83d Turin."}'),
        calling("archival_memory_insert", arguments='{"content": "Bo lives in Oslo."}'),
        saying("Kept."),
        calling("archival_memory_search", arguments='{"query": "Ida"}'),
        saying("In Turin."),
    )
    tools = ("archival_memory_insert", "archival_memory_search")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        agent_id = await server.agent("script/x", tools=tools)
        first = await server.conversation(agent_id)
        second = await server.conversation(agent_id)
        await server.post(first, "Keep that.", streaming=False)
        await server.post(second, "Where is Ida?", streaming=False)
        kept = [one for one in await server.events(archive_of(agent_id)) if one]
        (found,) = [one for one in await server.events(second) if isinstance(one, ToolFinished)]
        begun = [one for one in await server.facts(first) if isinstance(one.event, ToolStarted)]
    # The model names its calls alike in every step, and yet they are two.
    assert [type(one) for one in kept] == [PassageInserted, PassageInserted]
    assert kept[0].cause == Cause(stream=first, offset=begun[0].version)
    assert (found.status, "Ida lives in ? Turin." in str(found.content)) == ("ok", True)
