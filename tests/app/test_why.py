"""Why something is forgotten: found in the tables of every engine, whatever a conversation's length."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.recall.why
from app.log import Log
from app.recall.why import EXCERPT_CHARS_MAX, Why
from app.storage.integrity import rebuild_tables
from domain.content import Image, UrlSource
from domain.conversation import MessageAppended, WindowCompacted
from domain.event import Event
from domain.run import CalledTool
from domain.streams import MESSAGE, derived_id, system_message_id
from projections.items import SummaryItem
from projections.search_texts import said_in
from projections.search_words import words_of
from projections.why import Occurrence, WhyAnswer
from tests import examples
from tests.app.faults import FaultyStore
from tests.talks import WORDS, Talk, message_id_of, talks

STREAM: Final = examples.CONVERSATION_ID
CALL: Final = CalledTool(id="call_1", name="weather", arguments='{"city": "Lisbon"}')


async def stored(log: Log, talk: Talk, stream: str = STREAM) -> None:
    await log.append(stream, 0, talk.events, "user")


async def asked(log: Log, query: str, limit: int = 10, stream: str = STREAM) -> WhyAnswer:
    return await Why(log).asked(stream, query, limit)


async def only(log: Log, query: str) -> Occurrence:
    (occurrence,) = (await asked(log, query)).occurrences
    return occurrence


# --- phrases ----------------------------------------------------------------------------------


async def test_a_phrase_is_followed_from_where_it_was_said_to_the_current_summary(log: Log) -> None:
    talk = Talk()
    talk.say("Good morning.")
    said = talk.say("On Sunday I had tea with Ana.")
    talk.reply("How nice!")
    compaction_id = talk.compact(2, said, "Ana was met for tea.")
    compacted_at = len(talk.events)
    await stored(log, talk)
    answer = await asked(log, "tea with Ana")
    (it,) = answer.occurrences
    assert (answer.verdict, answer.at, answer.total) == ("summarised", len(talk.events), 1)
    assert (it.offset, it.message_id, it.role, it.kind) == (
        said,
        message_id_of(said),
        "user",
        "words",
    )
    assert (it.text, it.match) == ("On Sunday I had tea with Ana.", "phrase")
    assert (it.evicted_at, it.compaction_id) == (compacted_at, compaction_id)
    assert [one.words for one in it.survives_in] == [("Ana", "tea")]
    assert [(one.entered_at, one.left_at) for one in it.windows] == [(said, compacted_at)]
    assert answer.sentence.startswith('"tea with Ana" was said at offset 3 (')
    assert answer.sentence.endswith(
        f", left the window at offset {compacted_at} when {compaction_id} "
        "(post_step_context_check, sliding_window) evicted messages 2–3, and the current summary "  # noqa: RUF001 - from, to
        f"(offset {compacted_at}) keeps its words: Ana and tea."
    )


async def test_a_reply_is_an_occurrence_at_the_offset_where_it_began(log: Log) -> None:
    talk = Talk()
    s = talk.reply("Well,", "I had tea with Ana.")
    await stored(log, talk)
    it = await only(log, "tea with Ana")
    assert (it.offset, it.role, it.message_id) == (s, "assistant", message_id_of(s))
    assert it.windows[0].entered_at == s + 3


async def test_what_is_visible_comes_first_then_what_was_evicted_then_what_was_rolled_back(
    log: Log,
) -> None:
    talk = Talk()
    places = [talk.say("tea") for _ in range(6)]
    talk.compact(places[0], places[1], "Nothing.")
    talk.roll_back(places[4], places[5])
    await stored(log, talk)
    answer = await asked(log, "tea")
    order = [one.offset for one in answer.occurrences]
    assert order == [places[n] for n in (3, 2, 1, 0, 5, 4)]
    assert answer.verdict == "in_window"
    few = await asked(log, "tea", limit=2)
    assert ([one.offset for one in few.occurrences], few.total) == (order[:2], 6)


async def test_a_mistyped_word_is_corrected_and_the_answer_says_so(log: Log) -> None:
    talk = Talk()
    talk.say("I adore the aquarium of Lisbon.")
    await stored(log, talk)
    answer = await asked(log, "the acquarium of lisbon")
    assert (answer.verdict, answer.total) == ("in_window", 1)
    assert [(one.word, one.instead) for one in answer.corrections] == [("acquarium", "aquarium")]
    assert answer.sentence.startswith('With "aquarium" instead of "acquarium", ')


async def test_what_nobody_said_comes_with_what_is_closest(log: Log) -> None:
    talk = Talk()
    talk.say("I like green tea.")
    talk.say("Soup.")
    await stored(log, talk)
    answer = await asked(log, "tea with Marguerite")
    assert (answer.verdict, answer.occurrences) == ("never_said", ())
    assert [(one.offset, one.words) for one in answer.closest] == [(2, ("tea",))]
    assert answer.sentence == (
        '"tea with Marguerite" was never said; closest: tea in "I like green tea." at offset 2.'
    )
    nothing = await asked(log, "xylophone quartz")
    assert nothing.closest == ()
    assert nothing.sentence == '"xylophone quartz" was never said: nothing like it.'


async def test_words_in_one_sentence_are_preferred_to_words_anywhere(log: Log) -> None:
    talk = Talk()
    talk.say("Tea is fine. Ana came.")
    await stored(log, talk)
    assert (await only(log, "tea with Ana")).match == "text"
    more = Talk(talk.events)
    close = more.say("Ana had tea.")
    await log.append(STREAM, len(talk.events) - 1, more.events[-1:], "user")
    it = await only(log, "tea with Ana")
    assert (it.offset, it.match) == (close, "sentence")


@pytest.mark.parametrize("query", ["?!", " ", "\u0000", '""'])
async def test_a_question_without_words_says_so(log: Log, query: str) -> None:
    await stored(log, Talk())
    answer = await asked(log, query)
    assert (answer.verdict, answer.sentence) == ("never_said", app.recall.why.NO_WORDS)


async def test_a_long_text_is_shown_around_the_words(log: Log) -> None:
    talk = Talk()
    talk.say("blah " * 500 + "tea with Ana " + "blah " * 500)
    await stored(log, talk)
    it = await only(log, "tea with Ana")
    assert "tea with Ana" in it.text
    assert len(it.text) <= EXCERPT_CHARS_MAX + 2


async def test_words_of_another_conversation_are_not_found(log: Log) -> None:
    talk = Talk()
    talk.say("tea with Ana")
    await stored(log, talk, examples.OTHER_CONVERSATION_ID)
    await stored(log, Talk())
    answer = await asked(log, "tea with Ana")
    assert (answer.verdict, answer.closest) == ("never_said", ())


async def test_only_the_newest_of_very_many_are_looked_into(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk()
    for _ in range(5):
        talk.say("tea")
    await stored(log, talk)
    assert (await asked(log, "tea")).complete
    monkeypatch.setattr(app.recall.why, "CHECKED_MAX", 3)
    answer = await asked(log, "tea")
    assert ([one.offset for one in answer.occurrences], answer.complete) == ([6, 5, 4], False)
    monkeypatch.setattr(app.recall.why, "CHECKED_CHARS_MAX", 4)
    assert (await asked(log, "tea")).total == 2
    monkeypatch.setattr(app.recall.why, "CHECKED_MAX", 0)
    answer = await asked(log, "tea")
    assert (answer.complete, answer.sentence) == (False, app.recall.why.OLDER)


# --- ids --------------------------------------------------------------------------------------


async def test_a_message_is_followed_by_its_id(log: Log) -> None:
    talk = Talk()
    said = talk.say("The blue harbour hotel in Lisbon")
    talk.compact(said, said, "A hotel in Lisbon, the Blue Harbour.")
    await stored(log, talk)
    answer = await asked(log, message_id_of(said))
    (it,) = answer.occurrences
    assert (answer.asked, answer.verdict, it.offset, it.match) == (
        "message",
        "summarised",
        said,
        None,
    )
    assert it.survives_in[0].share == 1


async def test_what_everybody_says_does_not_tell_that_a_message_was_kept(log: Log) -> None:
    talk = Talk()
    for _ in range(8):
        talk.say("hotel room city view price")
    said = talk.say("hotel room city view price harbour Lisbon Marguerite quartz lantern")
    talk.compact(2, said, "A hotel room with a city view and a price.")
    await stored(log, talk)
    answer = await asked(log, message_id_of(said))
    assert (answer.verdict, answer.occurrences[0].survives_in) == ("evicted", ())


async def test_a_tool_call_is_followed_with_its_return(log: Log) -> None:
    talk = Talk()
    s = talk.reply(calls=[CALL])
    returned = talk.returned(s, CALL.id, "Sunny, 21 degrees")
    await stored(log, talk)
    answer = await asked(log, CALL.id)
    assert (answer.asked, answer.verdict) == ("tool_call", "in_window")
    assert [(one.offset, one.role, one.kind) for one in answer.occurrences] == [
        (s, "assistant", "call"),
        (returned, "tool", "return"),
    ]
    assert answer.sentence.startswith(f"{CALL.id} was called")


async def test_a_summary_is_followed_by_its_id(log: Log) -> None:
    talk = Talk()
    talk.say("Tea.")
    talk.compact(2, 2, "They had tea in the blue harbour.")
    summary_at = len(talk.events)
    await stored(log, talk)
    it = await only(log, message_id_of(summary_at))
    assert (it.offset, it.role, it.in_window) == (summary_at, "summary", True)
    again = Talk(talk.events)
    again.compact(summary_at, summary_at, "Nothing.")
    await log.append(STREAM, summary_at, again.events[summary_at:], "user")
    it = await only(log, message_id_of(summary_at))
    assert (it.in_window, it.evicted_at) == (False, len(again.events))


async def test_the_system_prompt_is_in_the_window(log: Log) -> None:
    await stored(log, Talk())
    answer = await asked(log, system_message_id(STREAM))
    assert (answer.verdict, answer.occurrences[0].role) == ("in_window", "system")


async def test_a_prompt_that_a_compaction_brought_stays_when_its_summary_leaves(log: Log) -> None:
    talk = Talk()
    talk.say("Tea.")
    talk.compact(2, 2, "Tea.")
    compacted = talk.events[-1]
    assert isinstance(compacted, WindowCompacted)
    brought = examples.SYSTEM.model_copy(update={"text": "You like quartz."})
    talk.events[-1] = compacted.model_copy(update={"system": brought})
    at = len(talk.events)
    talk.compact(at, at, "Nothing.")
    await stored(log, talk)
    it = await only(log, system_message_id(STREAM))
    assert (it.offset, it.text, it.in_window) == (at, "You like quartz.", True)
    answer = await asked(log, "quartz")
    assert (answer.verdict, answer.system_at) == ("never_said", at)
    assert answer.sentence.endswith(f"; the system prompt, from offset {at}, has it.")


async def test_what_never_came_into_the_window_says_why(log: Log) -> None:
    waiting = examples.waiting()
    begun: list[Event] = [examples.started, examples.queued(), examples.claimed()]
    step = examples.step_started()
    approval = MessageAppended(
        message_id=derived_id(MESSAGE, "approval"),
        otid=examples.OTID,
        role="approval",
        approvals=({},),
        run_id=examples.RUN_ID,
    )
    over = examples.superseded(5)
    await log.append(STREAM, 0, [*begun, waiting, step, over, approval], "user")
    for message_id, words in (
        (waiting.message_id, "has not come into the window"),
        (step.message_id, "came to nothing"),
        (approval.message_id, "request for approval"),
        (derived_id(MESSAGE, "unknown"), "no message-"),
    ):
        answer = await asked(log, message_id)
        assert (answer.verdict, answer.occurrences) == ("never_said", ())
        assert words in answer.sentence


async def test_a_picture_has_no_words_but_a_place(log: Log) -> None:
    talk = Talk()
    picture = Image(source=UrlSource(url="https://example.org/a.png"))
    talk.add(examples.appended(content=(picture,)))
    await stored(log, talk)
    it = await only(log, examples.MESSAGE_ID)
    assert (it.offset, it.text, it.in_window) == (2, "", True)


async def test_a_call_whose_id_is_a_message_does_not_hide_the_message(log: Log) -> None:
    talk = Talk()
    said = talk.say("Tea.")
    talk.reply(calls=[CALL.model_copy(update={"id": message_id_of(said)})])
    await stored(log, talk)
    assert (await only(log, message_id_of(said))).offset == said


async def test_a_call_is_found_again_after_the_tables_were_rebuilt(tmp_path: Path) -> None:
    talk = Talk()
    s = talk.reply(calls=[CALL])
    async with Log(FaultyStore(tmp_path / "everlog.db")) as log:
        await stored(log, talk)
        await log.in_reader(lambda: rebuild_tables(log.store))
        assert (await only(log, CALL.id)).offset == s


# --- against the window -----------------------------------------------------------------------


@pytest.mark.sqlite
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(talks(), st.lists(st.sampled_from(WORDS), min_size=1, max_size=2, unique=True))
async def test_the_verdict_is_that_of_reading_everything(
    log: Log, talk: Talk, words: list[str]
) -> None:
    stream = f"conv-{derived_id('x', repr(talk.events) + repr(words))[2:]}"
    head = await log.in_reader(lambda: log.store.head(stream))
    if head is None:
        await stored(log, talk, stream)
    answer = await asked(log, " ".join(words), limit=100, stream=stream)
    wanted = {word.lower() for word in words}
    texts = [said for fact in talk.facts if (said := said_in(fact)) is not None]
    places = {one.place for one in texts if wanted <= set(words_of(one.text))}
    window = talk.window
    visible = {item.offset for item in window.items}
    summaries = {
        item.offset
        for item in window.items
        if isinstance(item, SummaryItem) and wanted <= set(words_of(item.summary))
    }
    assert answer.verdict == _verdict(places, visible, summaries)
    assert {one.offset for one in answer.occurrences} == places
    for one in answer.occurrences:
        assert one.in_window == (one.offset in visible)
        current = {each.offset for each in one.survives_in if each.current}
        assert current == {offset for offset in summaries if offset > one.offset}
        evictor = [each for each in window.marks.active if one.offset in each.offsets]
        assert one.evicted_at == (evictor[0].fact.version if evictor else None)
        assert (one.compaction_id is None) == (not evictor)


def _verdict(places: set[int], visible: set[int], summaries: set[int]) -> str:
    if not places:
        return "never_said"
    if places & visible:
        return "in_window"
    return "summarised" if summaries else "evicted"


@pytest.mark.sqlite
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=80))
async def test_any_question_has_an_answer(log: Log, query: str) -> None:
    if await log.in_reader(lambda: log.store.head(STREAM)) is None:
        talk = Talk()
        talk.say("I had tea with Ana.")
        talk.compact(2, 2, 'They had "tea".')
        await stored(log, talk)
    answer = await asked(log, query)
    assert answer.sentence.endswith(".")
    assert answer.verdict in ("never_said", "summarised", "evicted")
