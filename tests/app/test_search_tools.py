"""A model looks back: it searches its conversation, and reads around what it found."""

from pathlib import Path
from typing import Any

import pytest

from app.log import Log
from app.recall.search import Search
from app.tools import Call, ToolFailed
from app.tools.recall import ConversationSearch, Recall
from domain.event import Event
from domain.run import ToolFinished
from tests import examples
from tests.app.scripts import calling, saying
from tests.app.serving import Scripted, serving
from tests.app.test_search import OTHER, STREAM, message, returned, stored

CALL = Call(STREAM, examples.RUN_ID, "call-0", 2**40)


async def searched(log: Log, call: Call = CALL, **arguments: Any) -> str:
    return await ConversationSearch(Search(log)).run(arguments, call)


async def recalled(log: Log, call: Call = CALL, **arguments: Any) -> str:
    return await Recall(Search(log)).run(arguments, call)


async def talked(log: Log) -> str:
    """Have something said; give the day it was said."""
    said: list[Event] = [message("My sister is Ida.", 1), message("ok", 2), returned("Ida, 7")]
    await stored(log, *said)
    await stored(log, "Ida is somebody else here.", stream=OTHER)
    (row,) = await log.query("SELECT at FROM texts WHERE stream = ? AND version = 2", (STREAM,))
    return row["at"][:10]


async def test_a_search_tells_offset_date_who_and_words(log: Log) -> None:
    day = await talked(log)
    lines = (await searched(log, query="Ida", limit=2)).split("\n")
    assert len(lines) == 2
    (said,) = [line for line in lines if "sister" in line]
    assert said.startswith(f"[offset 2, {day} ")
    assert said.endswith("] user: My sister is Ida.")
    assert "somebody else" not in "".join(lines)


async def test_a_search_says_what_it_mended_and_when_there_is_nothing(log: Log) -> None:
    await talked(log)
    assert "Nobody said 'sitser'; searched for 'sister' instead." in await searched(
        log, query="sitser"
    )
    assert await searched(log, query="xylophone") == "Nothing that was said matches."


async def test_roles_and_days_narrow_it_both_ends_included(log: Log) -> None:
    day = await talked(log)
    none = "Nothing that was said matches."
    assert "[offset 4" in await searched(log, query="Ida", roles=["tool"])
    assert "user:" not in await searched(log, query="Ida", roles=["tool", "assistant"])
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"start_date": day, "end_date": day}, True),
        ({"start_date": f"{day}T00:00:00Z"}, True),
        ({"start_date": "2999-01-01"}, False),
        ({"end_date": "2001-01-01"}, False),
        ({"end_date": "2001-01-01T10:00:00+02:00"}, False),
        ({"end_date": "9999-12-31", "start_date": "", "roles": []}, True),
    ]
    for arguments, there in cases:
        assert (await searched(log, query="sister Ida", **arguments) != none) is there, arguments


async def test_what_comes_after_the_call_is_not_seen(log: Log) -> None:
    await talked(log)
    call = Call(STREAM, examples.RUN_ID, "call-0", 3)
    assert "[offset 4" not in await searched(log, call, query="Ida")
    assert "[offset 4" not in await recalled(log, call, offset=2)


async def test_recall_reads_what_is_around_an_offset(log: Log) -> None:
    await talked(log)
    first, second, third = (await recalled(log, offset=3)).split("\n\n")
    assert first.endswith("] user: My sister is Ida.")
    assert second.startswith("[offset 3, ")
    assert third.endswith("] tool: Ida, 7")
    assert (await recalled(log, offset=3, before=0, after=0)) == second


async def test_what_is_left_out_of_a_long_message_is_told(log: Log) -> None:
    await stored(log, "x" * 5000)
    assert (await recalled(log, offset=2)).endswith("x\n(… 1000 more characters)")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "query: a string of 1 to 2000 characters"),
        ({"query": " "}, "query: a string"),
        ({"query": 7}, "query: a string"),
        ({"query": "x" * 2001}, "1 to 2000 characters"),
        ({"query": "a", "limit": 0}, "limit: a whole number from 1 to 20"),
        ({"query": "a", "limit": 21}, "limit: a whole number from 1 to 20"),
        ({"query": "a", "limit": True}, "limit"),
        ({"query": "a", "limit": 2.5}, "limit"),
        ({"query": "a", "roles": "user"}, "roles: a list of some of user, system, assistant, tool"),
        ({"query": "a", "roles": ["king"]}, "roles"),
        ({"query": "a", "roles": [["user"]]}, "roles"),
        ({"query": "a", "start_date": "yesterday"}, "start_date: a date such as 2026-01-31"),
        ({"query": "a", "end_date": 2026}, "end_date: a date such as"),
    ],
)
async def test_a_search_that_cannot_be_is_told_why(
    log: Log, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ToolFailed, match=says):
        await searched(log, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "offset: a whole number is needed"),
        ({"offset": "2"}, "offset"),
        ({"offset": 2**63}, "offset"),
        ({"offset": 2, "before": -1}, "before: a whole number from 0 to 10"),
        ({"offset": 2, "after": 11}, "after: a whole number from 0 to 10"),
        ({"offset": 99}, "nothing was said at 99; take one from conversation_search"),
    ],
)
async def test_a_recall_that_cannot_be_is_told_why(
    log: Log, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ToolFailed, match=says):
        await recalled(log, **arguments)


async def test_numbers_with_a_point_are_whole_all_the_same(log: Log) -> None:
    await talked(log)
    assert "[offset 2" in await searched(log, query="sister", limit=1.0)


async def test_a_model_calls_them_in_a_run(tmp_path: Path) -> None:
    model = Scripted(
        saying("Noted."),
        calling("conversation_search", arguments='{"query": "sister"}'),
        calling("recall", arguments='{"offset": 3}'),
        saying("Ida."),
    )
    tools = ("conversation_search", "recall")
    async with serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(await server.agent("script/x", tools=tools))
        await server.post(stream, "My sister is Ida.", streaming=False)
        await server.post(stream, "Who is she?", streaming=False)
        done = [one for one in await server.events(stream) if isinstance(one, ToolFinished)]
        assert [one.status for one in done] == ["ok", "ok"]
        assert all("user: My sister is Ida." in str(one.content) for one in done)
        assert [tool.name for tool in model.requests[0].tools] == [*tools]
