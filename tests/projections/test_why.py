"""The verdict on something said, and the sentence that tells it."""

from collections.abc import Iterator
from dataclasses import replace

from projections.search_questions import question_of
from projections.search_texts import said_in
from projections.why import (
    Findings,
    Found,
    Near,
    Phrase,
    Swapped,
    Thing,
    WhyAnswer,
    answer_of,
    phrase_of,
    telling_of,
    timeline_of,
)
from tests.talks import AT, Talk, compaction_id_of, message_id_of

QUERY = "tea with Ana"


def findings(talk: Talk, query: str = QUERY) -> Findings:
    """Find a phrase by reading everything; the newest first, what is visible before the rest."""
    timeline = timeline_of(talk.facts)
    phrase = phrase_of(query, question_of(query))
    found = sorted(
        _found(talk, phrase),
        key=lambda one: (
            not timeline.visible(one.thing),
            one.thing.message_id in timeline.hidden,
            -one.thing.place,
        ),
    )
    return Findings(
        query=query,
        asked="phrase",
        at=len(talk.events),
        timeline=timeline,
        phrase=phrase,
        found=tuple(found),
        total=len(found),
        visible=any(timeline.visible(one.thing) for one in found),
        first_said=min((one.thing.place for one in found), default=None),
    )


def _found(talk: Talk, phrase: Phrase) -> Iterator[Found]:
    for fact in talk.facts:
        said = said_in(fact)
        match = None if said is None else phrase.closeness(said.text)
        if said is not None and match is not None:
            thing = Thing(said.place, message_id_of(said.place), fact.version)
            yield Found(thing, said.role, said.kind, AT, said.text, match)


def answered(talk: Talk, query: str = QUERY) -> WhyAnswer:
    return answer_of(findings(talk, query))


def of_message(talk: Talk, offset: int, words: str) -> WhyAnswer:
    """Ask about the message at an offset."""
    timeline = timeline_of(talk.facts)
    it = Thing(offset, message_id_of(offset), offset)
    found = Found(it, "user", "words", AT, words, telling=telling_of(words, {}))
    return answer_of(
        Findings(
            query=message_id_of(offset),
            asked="message",
            at=len(talk.events),
            timeline=timeline,
            found=(found,),
            total=1,
            visible=timeline.visible(it),
            first_said=offset,
        )
    )


def forgotten(*summaries: str) -> Talk:
    """A conversation in which tea with Ana left the window, and each summary the one before."""
    talk = Talk()
    talk.say("I had tea with Ana.")
    talk.say("Soup.")
    first, last = 2, 2
    for summary in summaries:
        talk.compact(first, last, summary)
        first = last = len(talk.events)
    return talk


# --- verdicts ---------------------------------------------------------------------------------


def test_what_nobody_said_was_never_said() -> None:
    talk = Talk()
    talk.say("Soup.")
    answer = answered(talk)
    assert (answer.verdict, answer.total, answer.occurrences) == ("never_said", 0, ())
    assert answer.sentence == '"tea with Ana" was never said: nothing like it.'


def test_what_nobody_said_may_be_close_to_something() -> None:
    near = Near(offset=9, role="user", at=AT, text="I like tea,\nI do.", words=("tea",))
    answer = answer_of(replace(findings(Talk()), closest=(near,)))
    assert answer.sentence == (
        '"tea with Ana" was never said; closest: tea in "I like tea, I do." at offset 9.'
    )


def test_what_is_visible_is_in_the_window() -> None:
    talk = Talk()
    talk.say("I had tea with Ana.")
    answer = answered(talk)
    (it,) = answer.occurrences
    assert (answer.verdict, it.in_window, it.reachable) == ("in_window", True, "window")
    assert (it.evicted_at, it.compaction_id, it.chain) == (None, None, ())
    assert answer.sentence == (
        '"tea with Ana" was said at offset 2 (3 May 2026) and is in the window.'
    )


def test_what_is_said_again_is_in_the_window_though_it_had_left() -> None:
    talk = forgotten("Nothing much.")
    again = talk.say("Ana? Yes: tea with Ana.")
    answer = answered(talk)
    assert (answer.verdict, answer.total) == ("in_window", 2)
    assert [one.offset for one in answer.occurrences] == [again, 2]
    assert [one.reachable for one in answer.occurrences] == ["window", "search"]
    assert answer.sentence == (
        f'"tea with Ana" was said 2 times; the one at offset {again} (3 May 2026) is in the window.'
    )


def test_what_left_the_window_without_a_trace_is_evicted() -> None:
    answer = answered(forgotten("They talked about soup."))
    (it,) = answer.occurrences
    assert (answer.verdict, it.in_window, it.reachable) == ("evicted", False, "search")
    assert (it.evicted_at, it.compaction_id) == (5, compaction_id_of(5))
    assert it.survives_in == ()
    assert answer.sentence == (
        f'"tea with Ana" was said at offset 2 (3 May 2026), left the window at offset 5 when '
        f"{compaction_id_of(5)} (post_step_context_check, sliding_window) evicted message 2, "
        "and the current summary does not have it."
    )


def test_what_the_current_summary_has_is_summarised() -> None:
    answer = answered(forgotten("Soup. Ana's tea was mentioned."))
    (it,) = answer.occurrences
    assert (answer.verdict, it.reachable) == ("summarised", "summary")
    (survivor,) = it.survives_in
    assert (survivor.compaction_id, survivor.offset) == (compaction_id_of(5), 5)
    assert (survivor.summary_message_id, survivor.current) == (message_id_of(5), True)
    assert (survivor.words, survivor.share, survivor.status) == (("Ana's", "tea"), 1, "active")
    assert answer.sentence == (
        f'"tea with Ana" was said at offset 2 (3 May 2026), left the window at offset 5 when '
        f"{compaction_id_of(5)} (post_step_context_check, sliding_window) evicted message 2, "
        "and the current summary (offset 5) keeps its words: Ana's and tea."
    )


def test_a_summary_of_a_summary_keeps_it_or_loses_it() -> None:
    kept = answered(forgotten("Tea with Ana.", "Ana had tea."))
    (it,) = kept.occurrences
    assert kept.verdict == "summarised"
    assert [(one.offset, one.current) for one in it.survives_in] == [(7, True), (5, False)]
    assert [(one.offset, one.kept, one.current) for one in it.chain] == [
        (5, True, False),
        (7, True, True),
    ]
    lost = answered(forgotten("Tea with Ana.", "Nothing."))
    (it,) = lost.occurrences
    assert (lost.verdict, it.reachable) == ("evicted", "search")
    assert [(one.offset, one.current) for one in it.survives_in] == [(5, False)]
    assert lost.sentence.endswith(
        "and the summary at offset 5 still had it, but not the one at offset 7, which replaced it "
        f"when {compaction_id_of(7)} was done."
    )


def test_an_undone_compaction_brings_it_back() -> None:
    talk = forgotten("Tea with Ana.")
    undone_at = talk.undo(compaction_id_of(5))
    answer = answered(talk)
    (it,) = answer.occurrences
    assert (answer.verdict, it.evicted_at) == ("in_window", None)
    assert [(one.status, one.current) for one in it.survives_in] == [("undone", False)]
    assert answer.sentence == (
        '"tea with Ana" was said at offset 2 (3 May 2026) and left the window at offset 5 and is '
        f"back in it since offset {undone_at}, when {compaction_id_of(5)} was undone."
    )


def test_a_redone_compaction_takes_it_away_again() -> None:
    talk = forgotten("Soup.")
    talk.undo(compaction_id_of(5))
    redone_at = talk.redo(compaction_id_of(5))
    answer = answered(talk)
    (it,) = answer.occurrences
    assert (answer.verdict, it.evicted_at) == ("evicted", 5)
    assert f"left the window at offset {redone_at} when {compaction_id_of(5)} was redone" in (
        answer.sentence
    )


def test_what_was_rolled_back_is_in_the_log_alone() -> None:
    talk = Talk()
    offset = talk.say("I had tea with Ana.")
    rolled_back_at = talk.roll_back(offset)
    answer = answered(talk)
    (it,) = answer.occurrences
    assert (answer.verdict, it.reachable) == ("evicted", "log")
    assert (it.rolled_back_at, it.evicted_at) == (rolled_back_at, None)
    assert answer.sentence == (
        '"tea with Ana" was said at offset 2 (3 May 2026), was hidden at offset 3, when its turn '
        "was rolled back."
    )


def test_a_pinned_message_says_so() -> None:
    talk = Talk()
    talk.pin(talk.say("I had tea with Ana."))
    answer = answered(talk)
    assert answer.occurrences[0].pinned
    assert answer.sentence.endswith("and is in the window, where it is pinned.")


def test_words_that_only_a_summary_has_were_never_said() -> None:
    talk = Talk()
    talk.say("Soup.")
    talk.compact(2, 2, "They had tea with Ana.")
    answer = answered(talk)
    assert (answer.verdict, answer.occurrences) == ("never_said", ())
    (only,) = answer.only_in_summaries
    assert (only.offset, only.current, only.words) == (4, True, ("tea", "Ana"))
    assert answer.sentence == (
        f'"tea with Ana" was never said: only the summary of {compaction_id_of(4)} at offset 4 '
        "says it."
    )


def test_a_summary_written_before_anybody_said_it_has_it_from_nobody() -> None:
    talk = Talk()
    talk.say("Soup.")
    talk.compact(2, 2, "They had tea with Ana.")
    talk.say("I never had tea with Ana!")
    answer = answered(talk)
    (it,) = answer.occurrences
    assert (it.survives_in, [one.offset for one in answer.only_in_summaries]) == ((), [4])


def test_a_message_that_came_while_a_summary_was_written_is_not_in_it() -> None:
    talk = Talk()
    talk.say("Soup.")
    late = talk.say("I had tea with Ana.")
    talk.compact(2, 2, "Tea with Ana.", planned_at=2)
    (it,) = answered(talk).occurrences
    assert (it.offset, it.survives_in) == (late, ())


# --- the compaction -----------------------------------------------------------------------------


def test_the_compaction_tells_its_settings_and_arithmetic() -> None:
    (it,) = answered(forgotten("Soup.")).occurrences
    by = it.compaction
    assert by is not None
    assert (by.trigger, by.mode, by.model) == (
        "post_step_context_check",
        "sliding_window",
        "demo/echo",
    )
    assert (by.tokens_before, by.tokens_after, by.context_window) == (7_300, 4_100, 8_000)
    assert (by.share, by.cut, by.goal, by.tokens_left) == (0.5, 3, 5_600, 4_000)
    assert (by.offset, by.planned_at, by.retention) == (5, 3, 0.5)


# --- other ways to say it -----------------------------------------------------------------------


def test_words_that_are_not_in_a_row_are_called_words() -> None:
    talk = Talk()
    talk.say("Ana and I had tea.")
    assert answered(talk).sentence == (
        '"tea with Ana" was said (its words, not in a row) at offset 2 (3 May 2026) and is in the '
        "window."
    )


def test_a_corrected_word_is_named() -> None:
    talk = Talk()
    talk.say("I had tea with Ana.")
    found = replace(
        findings(talk), query="tea with Anna", corrections=(Swapped(word="anna", instead="ana"),)
    )
    assert answer_of(found).sentence == (
        'With "ana" instead of "anna", "tea with Anna" was said at offset 2 (3 May 2026) and is in '
        "the window."
    )


def test_many_occurrences_are_counted_and_an_incomplete_count_says_so() -> None:
    talk = Talk()
    for _ in range(3):
        talk.say("tea with Ana")
    found = findings(talk)
    assert answer_of(found).sentence.startswith('"tea with Ana" was said 3 times; the one at')
    assert answer_of(replace(found, complete=False)).sentence.startswith(
        '"tea with Ana" was said at least 3 times; the one at'
    )


def test_a_message_is_told_by_its_id_and_its_share() -> None:
    talk = Talk()
    words = "Blue harbour hotel, Lisbon"
    offset = talk.say(words)
    assert of_message(talk, offset, words).sentence == (
        f"{message_id_of(offset)} was said at offset 2 (3 May 2026) and is in the window."
    )
    talk.compact(2, 2, "They chose a hotel in Lisbon.")
    answer = of_message(talk, offset, words)
    (it,) = answer.occurrences
    assert (answer.verdict, it.survives_in[0].share) == ("summarised", 0.5)
    assert answer.sentence.endswith(
        "and the current summary (offset 4) keeps 50 % of its words: hotel and Lisbon."
    )


def test_a_call_and_its_return_are_one_call() -> None:
    talk = Talk()
    s = talk.reply("Let me see.")
    timeline = timeline_of(talk.facts)
    call = Found(
        Thing(s, message_id_of(s), s + 2),
        "assistant",
        "call",
        AT,
        "sun",
        telling=telling_of("", {}),
    )
    told = (call, replace(call, role="tool", kind="return"))
    answer = answer_of(
        Findings("call_1", "tool_call", s + 2, timeline, None, told, 2, visible=True)
    )
    assert answer.sentence == "call_1 was called at offset 2 (3 May 2026) and is in the window."


def test_a_long_query_is_cut_in_the_sentence() -> None:
    answer = answered(Talk(), "tea " * 100)
    assert answer.query == "tea " * 100
    assert len(answer.sentence) < 150
