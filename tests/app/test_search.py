"""What was said is found again: in its conversation, by its words, on every engine alike."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.execute import Execute
from app.log import Log
from app.mapper import revive
from app.recall.search import EXCERPT_CHARS_MAX, ITEM_CHARS_MAX, Search
from app.recall.search_across import SearchAcross
from app.storage.integrity import rebuild_tables
from app.storage.lineages import parent_at
from app.storage.store import Store
from domain.content import Content, Image, Text, UrlSource
from domain.conversation import (
    CancelRuns,
    ConversationSettings,
    DeleteConversation,
    ImportMessages,
    MessageAppended,
    NewMessage,
    QueueRun,
    SaidMessage,
    SaidReply,
    SaidReturn,
    StartConversation,
    WindowRolledBack,
)
from domain.event import Event
from domain.run import CalledTool, RunRequest, StepPart, ToolFinished
from domain.streams import MESSAGE, RUN, derived_id
from projections.search_answers import Only, SearchAnswer
from projections.search_texts import TEXT_CHARS_MAX
from tests import examples
from tests.app.faults import FaultyStore

STREAM: Final = examples.CONVERSATION_ID
OTHER: Final = examples.OTHER_CONVERSATION_ID
HOUR: Final = timedelta(hours=1)


def message(content: Content, number: int = 0, role: Any = "user") -> MessageAppended:
    """Say something; `number` names the message."""
    return MessageAppended(
        message_id=derived_id(MESSAGE, f"{number}"),
        otid=examples.OTID,
        role=role,
        content=content,
        run_id=examples.RUN_ID,
    )


def returned(content: Content, name: str = "weather", source: Any = "server") -> ToolFinished:
    return ToolFinished(
        s=1,
        run_id=examples.RUN_ID,
        step_id=examples.STEP_ID,
        tool_call_id="call-0",
        message_id=examples.NEXT_MESSAGE_ID,
        name=name,
        status="ok",
        content=content,
        source=source,
    )


def called(name: str, arguments: str, *, gated: bool = False) -> StepPart:
    call = CalledTool(id="call-0", name=name, arguments=arguments, gated=gated)
    return StepPart(s=1, i=0, kind="call", call=call)


async def stored(log: Log, *facts: Event | str, stream: str = STREAM) -> None:
    """Begin a conversation at offset 1 and have these said after it."""
    said = [message(one, n) if isinstance(one, str) else one for n, one in enumerate(facts)]
    await log.append(stream, 0, [examples.started, *said], "user")


async def found(log: Log, query: str, stream: str = STREAM, **more: Any) -> SearchAnswer:
    return await Search(log).find(stream, query, **more)


async def places(log: Log, query: str, **more: Any) -> list[int]:
    return [hit.place for hit in (await found(log, query, **more)).hits]


# --- when ---------------------------------------------------------------------------------------


async def imported(log: Log) -> datetime:
    """Take in a question, a reply with a call, and what that came to; give when it was asked."""
    asked_at = datetime(2023, 5, 8, 13, 57, tzinfo=UTC)
    part = StepPart(s=0, i=0, kind="text", text="An assistant's lantern.")
    reply = SaidReply(
        (part, called("look", '{"for": "lantern"}').model_copy(update={"i": 1})),
        (SaidReturn("call-0", "A tool's lantern.", said_at=asked_at + 2 * HOUR),),
        said_at=asked_at + HOUR,
    )
    question = SaidMessage("user", "A person's lantern?", asked_at)
    execute = Execute(log)
    begin = StartConversation(examples.AGENT_ID, examples.SYSTEM, ConversationSettings())
    await execute(STREAM, begin, "user")
    take_in = ImportMessages(examples.RUN_ID, "import:0", "hash", (question, reply))
    await execute(STREAM, take_in, "import")
    return asked_at


@pytest.mark.parametrize("rebuilt", [False, True])
async def test_what_was_imported_is_found_under_when_it_was_said(log: Log, rebuilt: bool) -> None:
    at = await imported(log)
    if rebuilt:
        rebuild_tables(log.store)
    hits = (await found(log, "lantern")).hits
    assert {hit.role: hit.at for hit in hits} == {
        "user": at,
        "assistant": at + HOUR,
        "tool": at + 2 * HOUR,
    }
    (reply,) = (await found(log, "lantern", only=Only(since=at + HOUR, until=at + 2 * HOUR))).hits
    assert reply.role == "assistant"
    around = await Search(log).around(STREAM, reply.place)
    assert [one.at for one in around] == [at, at + HOUR, at + 2 * HOUR]
    across = await SearchAcross(log).find("lantern", limit=9, only=Only(until=at + HOUR))
    assert [(one.role, one.at) for one in across] == [("user", at)]


# --- words ------------------------------------------------------------------------------------


async def test_what_was_said_is_found_by_its_words(log: Log) -> None:
    await stored(log, "I adopted a puppy.", "What breed?", "It rains.", "Bring soup.", "A hat.")
    answer = await found(log, "puppy")
    best = answer.hits[0]
    assert (best.place, best.version, best.role, best.kind) == (2, 2, "user", "words")
    assert best.text == "I adopted a puppy."
    (begun, *_) = await log.read(STREAM)
    assert best.at == revive(begun).at
    assert answer.corrections == ()


async def test_other_forms_of_a_word_find_it(log: Log) -> None:
    await stored(log, "We were running in the mountains.", "ok", "ok", "Soup.")
    for query in ("run", "runs", "mountain", "RUNNING Mountains"):
        assert (await places(log, query))[0] == 2, query


@pytest.mark.parametrize("query", ["cafe", "café", "CAFÉ", "cafe\u0301"])
async def test_accents_and_capitals_do_not_matter(log: Log, query: str) -> None:
    await stored(log, "The Café on Straße 7", "no", "no", "no", "the cafe\u0301 again")
    assert set(await places(log, query, limit=2)) == {2, 6}
    assert (await places(log, "strasse"))[0] == 2


async def test_words_without_spaces_between_are_found(log: Log) -> None:
    await stored(log, "会议室在哪里", "ok", "ok", "晚饭")
    assert (await places(log, "会议"))[0] == 2
    assert (await places(log, "晚"))[0] == 5


async def test_how_a_question_is_put_does_not_drown_what_it_asks(log: Log) -> None:
    chatter = ["When did you do that, and where did they go to?"] * 20
    await stored(log, *chatter, "Caroline visited the aquarium.", *chatter)
    assert (await places(log, "When did Caroline go to the aquarium?"))[0] == 22


async def test_a_question_of_such_words_alone_is_still_one(log: Log) -> None:
    await stored(log, "Soup.", "ok", "ok", "who are you", "ok")
    assert (await places(log, "who are you"))[0] == 5


async def test_rare_words_of_the_conversation_weigh_more(log: Log) -> None:
    often = [f"the garden, day {n}" for n in range(12)]
    await stored(log, *often, "a lantern", *often)
    assert (await places(log, "garden lantern"))[0] == 14


async def test_an_answer_beside_the_words_of_the_question_is_found(log: Log) -> None:
    noise = [f"nothing, {n}" for n in range(6)]
    await stored(log, *noise, "What is your sister's name?", "Marguerite.", *noise)
    assert set(await places(log, "name of the sister", limit=2)) == {8, 9}


# --- quotes -----------------------------------------------------------------------------------


async def test_words_in_quotes_must_stand_in_a_row(log: Log) -> None:
    await stored(log, "red house, green door", "the green house", "Green  House!", "a house, green")
    assert set(await places(log, '"green house"')) == {3, 4}
    assert set(await places(log, "“green house” door")) == {3, 4}
    assert await places(log, '"house the"') == []
    assert await places(log, '"greens house"') == []


async def test_even_words_that_say_little_must_if_they_are_quoted(log: Log) -> None:
    await stored(log, "not to be or be", "to be or not to be", "or not")
    assert await places(log, '"to be or not to be"') == [3]
    assert await places(log, 'soup "or not"') == [4, 3]


# --- mistakes ---------------------------------------------------------------------------------


async def test_a_mistaken_word_is_taken_for_one_that_was_said(log: Log) -> None:
    await stored(log, "We went camping.", "ok", "ok", "ok", "The observatory was closed.")
    for wrong, right, place in (
        ("campng", "camping", 2),
        ("acmping", "camping", 2),
        ("campinng", "camping", 2),
        ("obzervatorry", "observatory", 6),
    ):
        answer = await found(log, f"the {wrong}")
        assert [(one.word, one.instead) for one in answer.corrections] == [(wrong, right)]
        assert answer.hits[0].place == place


async def test_what_is_not_close_to_anything_finds_nothing(log: Log) -> None:
    await stored(log, "We went camping.", "The observatory was closed.")
    for query in ("xylophone", "camp1ng2", "42", "we't"):
        assert (await found(log, f"{query}")).corrections == ()
    assert await places(log, "xylophone") == []


async def test_words_in_quotes_are_meant_as_they_are(log: Log) -> None:
    await stored(log, "We went camping.")
    answer = await found(log, '"campng"')
    assert (answer.hits, answer.corrections) == ((), ())


async def test_another_conversation_mends_no_mistakes(log: Log) -> None:
    await stored(log, "We went hiking.")
    await stored(log, "We went camping.", stream=OTHER)
    answer = await found(log, "campng")
    assert (answer.hits, answer.corrections) == ((), ())


# --- what is searched -------------------------------------------------------------------------


async def test_another_conversation_is_never_searched(log: Log) -> None:
    await stored(log, "Our secret is a lantern.")
    await stored(log, "Nothing here.", stream=OTHER)
    assert (await found(log, "lantern", OTHER)).hits == ()
    assert (await found(log, STREAM, OTHER)).hits == ()
    assert (await found(log, "lantern", "conv-none")).hits == ()
    assert await places(log, STREAM) == []


async def test_replies_calls_and_returns_are_found_at_their_places(log: Log) -> None:
    await stored(
        log,
        message("Note this.", role="system"),
        StepPart(s=1, i=0, kind="text", text="Let me look at the barometer."),
        called("weather", '{"city": "Malm\\u00f6", "note": "a\\nbreeze"}'),
        returned((Text(text="Sunny,"), Text(text=" 21 degrees"))),
        StepPart(s=1, i=1, kind="reasoning", text="Hidden thoughts"),
    )
    for query, place, version, role, kind in (
        ("note", 2, 2, "system", "words"),
        ("barometer", 1, 3, "assistant", "words"),
        ("malmö breeze", 1, 4, "assistant", "call"),
        ("21 degrees", 5, 5, "tool", "return"),
    ):
        hit = (await found(log, query)).hits[0]
        assert (hit.place, hit.version, hit.role, hit.kind) == (place, version, role, kind)
    assert await places(log, "thoughts") == []


async def test_what_has_no_words_is_not_in_the_table(log: Log) -> None:
    picture = Image(source=UrlSource(url="https://example.org/lantern.png"))
    approval = message("").model_copy(update={"role": "approval", "content": None})
    await stored(
        log, message((picture,)), approval, message(" "), message((picture, Text(text="A")))
    )
    assert [row["version"] for row in await log.query("SELECT version FROM texts")] == [5]


async def test_what_was_recalled_is_not_said_anew(log: Log) -> None:
    asked = '{"query": "lantern"}'
    await stored(
        log,
        "A lantern.",
        called("conversation_search", asked),
        returned("[offset 2] a lantern", "conversation_search"),
        returned("a lantern", "recall"),
        called("recall", asked, gated=True),
        returned("a lantern", "recall", "client"),
    )
    assert sorted(await places(log, "lantern")) == [1, 2, 7]


async def test_a_step_is_one_hit_however_many_of_its_parts_match(log: Log) -> None:
    await stored(
        log,
        StepPart(s=1, i=0, kind="text", text="I shall light the lantern."),
        called("light", '{"what": "lantern"}'),
    )
    assert await places(log, "lantern") == [1]


async def test_of_a_very_long_text_the_beginning_is_searched(log: Log) -> None:
    await stored(log, "needle " + "hay " * TEXT_CHARS_MAX + "thimble")
    (hit,) = (await found(log, "needle")).hits
    assert hit.text.startswith("needle hay")
    assert await places(log, "thimble") == []


async def test_one_endless_word_does_no_harm(log: Log) -> None:
    await stored(log, "x" * 50_000, "ok", "y" * 3000 + " lantern")
    assert (await places(log, "lantern"))[0] == 4
    assert (await places(log, "x" * 50_000))[0] == 2


async def test_a_hit_shows_the_words_that_were_looked_for(log: Log) -> None:
    before, after = "lorem ipsum " * 300, " dolor amet" * 300
    await stored(log, f"{before}the lantern was\n\tunder the stairs{after}")
    (hit,) = (await found(log, "lantern stairs")).hits
    assert "the lantern was under the stairs" in hit.text
    assert len(hit.text) <= EXCERPT_CHARS_MAX + 2
    assert hit.text.startswith("…")
    assert hit.text.endswith("…")


async def test_hits_are_limited_and_in_order(log: Log) -> None:
    await stored(log, *[f"lantern {n}" for n in range(30)])
    for limit in (0, 1, 7):
        hits = (await found(log, "lantern", limit=limit)).hits
        assert len(hits) == limit
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_only_what_was_said_up_to_an_offset_is_searched(log: Log) -> None:
    await stored(log, "a lantern", "no", "the lanterns", "a candle")
    assert sorted(await places(log, "lantern", upto=3)) == [2, 3]
    assert await places(log, "candle", upto=4) == []
    assert (await found(log, "candl", upto=4)).corrections == ()


async def test_roles_and_times_narrow_a_search(log: Log) -> None:
    await stored(log, "a lantern", returned("lantern"), message("lantern", role="system"))
    at = (await found(log, "lantern")).hits[0].at
    assert await places(log, "lantern", only=Only(roles=frozenset({"tool"}))) == [3]
    assert len(await places(log, "lantern", only=Only(since=at))) == 3
    assert await places(log, "lantern", only=Only(until=at)) == []


async def test_what_was_rolled_back_is_not_found(log: Log) -> None:
    gone = message("a lantern", 1)
    await stored(log, message("my lantern", 2), gone, message("ok", 3))
    assert sorted(await places(log, "lantern")) == [2, 3, 4]
    rollback = WindowRolledBack(run_ids=(), message_ids=(gone.message_id,))
    await log.append(STREAM, 4, [rollback], "user")
    assert sorted(await places(log, "lantern")) == [2, 4]
    assert await Search(log).around(STREAM, 3) == ()
    assert [one.place for one in await Search(log).around(STREAM, 2)] == [2, 4]


async def hide_a_reply(log: Log) -> None:
    """Have a reply rolled back that alone speaks of a lantern, between two messages."""
    reply = [
        examples.step_started(),
        StepPart(s=3, i=0, kind="text", text="A lantern, and a candelabra."),
        called("weather", '{"at": "lantern"}').model_copy(update={"s": 3, "i": 1}),
    ]
    await stored(log, message("Good morning.", 1), *reply, message("Good night.", 2))
    assert sorted(await places(log, "lantern")) == [2, 3, 6]
    rollback = WindowRolledBack(run_ids=(), message_ids=(examples.REPLY_ID,))
    await log.append(STREAM, 6, [rollback], "user")


async def test_what_was_rolled_back_does_not_have_its_neighbours_found(log: Log) -> None:
    await hide_a_reply(log)
    answer = await found(log, "lantern candelabro")
    assert (answer.hits, answer.corrections) == ((), ())
    assert await SearchAcross(log).find("lantern candelabra", limit=9) == []
    assert await places(log, "morning") == [2, 6]


async def test_what_a_reset_took_away_does_not_have_its_neighbours_found(log: Log) -> None:
    await stored(log, "Good morning.", "A lantern.")
    reset = WindowRolledBack(run_ids=(), message_ids=(), through=3)
    await log.append(STREAM, 3, [reset, message("Good night.", 7)], "user")
    assert await places(log, "lantern") == []
    assert await SearchAcross(log).find("lantern", limit=9) == []
    assert await places(log, "night") == [5]


async def test_what_a_fork_inherited_is_not_found_where_the_fork_hides_it(log: Log) -> None:
    await hide_a_reply(log)
    begin = examples.started.model_copy(update={"parent": parent_at(log.store, STREAM, 7)})
    await log.append(OTHER, 0, [begin, message("A lantern of my own.", 8)], "user")
    hits = (await found(log, "lantern", OTHER)).hits
    assert {hit.text for hit in hits} == {"A lantern of my own.", "Good night.", "Good morning."}


# --- reading around ---------------------------------------------------------------------------


async def test_a_message_is_read_with_what_is_around_it(log: Log) -> None:
    await stored(log, *[f"word {n}" for n in range(2, 9)])
    search = Search(log)
    for offset, before, after, expected in (
        (5, 2, 2, [3, 4, 5, 6, 7]),
        (5, 0, 0, [5]),
        (2, 2, 1, [2, 3]),
        (8, 10, 10, [2, 3, 4, 5, 6, 7, 8]),
        (1, 2, 2, []),
        (99, 2, 2, []),
    ):
        items = await search.around(STREAM, offset, before=before, after=after)
        assert [one.place for one in items] == expected
        assert [one.texts for one in items] == [(f"word {place}",) for place in expected]
    assert await search.around(OTHER, 5) == ()
    assert [one.place for one in await search.around(STREAM, 5, upto=6)] == [3, 4, 5, 6]


async def test_a_step_is_read_whole_from_any_of_its_parts(log: Log) -> None:
    said = StepPart(s=1, i=0, kind="text", text="First this,")
    await stored(log, said, called("weather", "{}"), "ok")
    for offset in (1, 2, 3):
        step, after = await Search(log).around(STREAM, offset)
        assert (step.place, step.role) == (1, "assistant")
        assert (step.texts, after.place) == (("First this,", "weather {}"), 4)


async def test_a_long_message_is_read_in_part_and_says_so(log: Log) -> None:
    await stored(log, "x" * (ITEM_CHARS_MAX + 7))
    (item,) = await Search(log).around(STREAM, 2)
    assert (len(item.texts[0]), item.chars_left_out) == (ITEM_CHARS_MAX, 7)


# --- how it is kept ---------------------------------------------------------------------------


async def test_a_message_is_found_as_soon_as_it_is_stored(log: Log) -> None:
    execute, search = Execute(log), Search(log)
    await execute(STREAM, examples.start, "user")
    for number in range(5):
        new = NewMessage(derived_id(MESSAGE, f"{number}"), examples.OTID, "user", f"word{number}")
        run = derived_id(RUN, f"{number}")
        await execute(STREAM, QueueRun(run, RunRequest(), (new,), "reject", "0" * 64), "user")
        assert (await search.find(STREAM, f"word{number}")).hits[0].text == f"word{number}"
        await execute(STREAM, CancelRuns(), "user")


async def test_a_deleted_conversation_can_still_be_searched_by_who_may(log: Log) -> None:
    await stored(log, "a lantern")
    await Execute(log)(STREAM, DeleteConversation(), "user")
    assert await places(log, "lantern") == [2]


async def test_a_search_is_the_same_after_a_rebuild(log: Log) -> None:
    await stored(log, "A lantern.", "ok", returned("a candle"))
    await stored(log, "The lantern.", stream=OTHER)
    queries = ("lantern", "candl", '"a lantern"', "nothing")
    before = [await found(log, query) for query in queries]
    assert before[0].hits
    for _ in range(2):
        assert rebuild_tables(log.store) == []
        assert [await found(log, query) for query in queries] == before
    await log.append(STREAM, 4, [message("Another lantern.")], "user")
    assert 5 in await places(log, "lantern")


async def test_what_was_not_stored_is_not_found(tmp_path: Path) -> None:
    store = FaultyStore(tmp_path / "a.db", ["before", "after"])
    async with Log(store) as log:
        await stored(log, "a lantern")
        assert len((await found(log, "lantern")).hits) == 1
        await asyncio.wait([log.append(STREAM, 7, [message("another lantern")], "user")])
        assert len((await found(log, "lantern")).hits) == 1


async def test_a_word_has_a_posting_for_each_text_newest_first(store: Store) -> None:
    async with Log(store) as log:
        await stored(log, "a a b", "b c", "a d e")
        found = store.search(STREAM, ["a", "b", "z"], limit=10)
        assert found == [[(4, 3), (2, 2)], [(3, 2), (2, 2)], []]
        assert store.search(STREAM, ["b a", "a z"], limit=10) == [[(2, 2)], []]
        assert store.search(STREAM, ["a"], upto=3, limit=10) == [[(2, 2)]]
        assert store.search(STREAM, ["a"], limit=1) == [[(4, 3)]]
        assert (store.search(STREAM, [], limit=1), store.search(OTHER, ["a"], limit=1)) == (
            [],
            [[]],
        )
        assert (store.said(STREAM), store.said(STREAM, 2)) == ([2, 3, 4], [2])


hostile = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="\"'()*:^-+~&|!<>%_\\;, \0aAé会{}[]$?/\u201c\u201e\u0301", max_size=60),
    st.lists(
        st.sampled_from(["AND", "OR", "NOT", "NEAR(a b, 2)", "terms:", '"', "lantern", "*", "<->"]),
        max_size=9,
    ).map(" ".join),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(queries=st.lists(hostile, min_size=1, max_size=5), said=hostile)
def test_nothing_that_is_asked_or_said_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, queries: list[str], said: str, engine: str
) -> None:
    async def ask() -> None:
        path = tmp_path_factory.mktemp(engine) / "a.db"
        async with Log(FaultyStore(path)) as log:
            await stored(log, said, "A lantern.")
            for query in queries:
                answer = await found(log, query, limit=3)
                assert {hit.place for hit in answer.hits} <= {2, 3}
            # Whatever is a word when it is said, is one when it is asked for.
            asked = await found(log, said)
            assert not asked.hits or asked.hits[0].score > 0

    asyncio.run(ask())
