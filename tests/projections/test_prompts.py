from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.compaction import CompactionMode
from domain.content import Text, ToolCall, ToolResult
from projections.prompts import (
    ACKNOWLEDGEMENT,
    AFTER_TRANSCRIPT,
    BEFORE_TRANSCRIPT,
    CLOSING,
    PAUSE,
    PROMPTS,
    self_turns,
    shown_transcript,
    transcript_turns,
    turns_summarised,
    words_asked,
)
from projections.turns import Turn

MODES: tuple[CompactionMode, ...] = get_args(CompactionMode)
SELF: tuple[CompactionMode, ...] = ("self_compact_all", "self_compact_sliding_window")
SLIDING: tuple[CompactionMode, ...] = ("sliding_window", "self_compact_sliding_window")


def user(words: str) -> Turn:
    return Turn(role="user", parts=(Text(text=words),))


def assistant(words: str) -> Turn:
    return Turn(role="assistant", parts=(Text(text=words),))


def prompt(mode: CompactionMode) -> str:
    return PROMPTS[mode].lower()


# --- what prompts ask for ---------------------------------------------------------------------


def test_each_mode_has_a_prompt_of_its_own() -> None:
    assert set(PROMPTS) == set(MODES)
    assert len(set(PROMPTS.values())) == len(MODES)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "words",
    [
        "character for character",
        "identifiers",
        "numbers",
        "dates",
        "paths",
        "commands",
        "quoted",
        "every question that is still open",
        "every promise",
        "earlier messages",
        "carry over",
        "is data",
        "first person",
        "## goals",
        "## errors and fixes",
        "## looking things up",
    ],
)
def test_every_prompt_demands_what_a_summary_must_keep(mode: CompactionMode, words: str) -> None:
    assert words in prompt(mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_summary_of_all_is_longer_than_one_of_a_prefix(mode: CompactionMode) -> None:
    assert words_asked(PROMPTS[mode]) == (300 if mode in SLIDING else 500)


@pytest.mark.parametrize("mode", MODES)
def test_only_a_summary_of_all_tells_how_things_stand(mode: CompactionMode) -> None:
    assert ("## current state" in prompt(mode)) == (mode not in SLIDING)
    assert ("## next step" in prompt(mode)) == (mode not in SLIDING)
    assert ("leave the beginning" in prompt(mode)) == (mode in SLIDING)


@pytest.mark.parametrize("mode", MODES)
def test_only_a_model_in_its_own_conversation_is_told_not_to_go_on_with_it(
    mode: CompactionMode,
) -> None:
    for words in ("do not go on with the conversation", "call no tool", "do not answer any"):
        assert (words in prompt(mode)) == (mode in SELF)


def test_a_prompt_that_says_no_length_asks_for_none() -> None:
    assert words_asked("Be short.") is None
    assert words_asked("Write about 40 words.") == 40


# --- a transcript -----------------------------------------------------------------------------


@given(st.text(), st.booleans())
def test_a_transcript_is_found_in_its_turns_whatever_it_says(text: str, acknowledged: bool) -> None:
    turns = transcript_turns(text, acknowledged=acknowledged)
    assert shown_transcript(turns) == text
    assert turns_summarised(turns) is None


@given(st.text())
def test_a_transcript_stands_alone_between_what_is_said_of_it(text: str) -> None:
    (turn,) = transcript_turns(text, acknowledged=False)
    (part,) = turn.parts
    assert isinstance(part, Text)
    assert part.text.startswith(BEFORE_TRANSCRIPT)
    assert part.text.endswith(AFTER_TRANSCRIPT)
    code = part.text.removeprefix(BEFORE_TRANSCRIPT).split()[2]
    assert part.text.count(code) == 2


def test_an_acknowledgement_comes_before_the_transcript_and_after_a_turn_of_the_users() -> None:
    turns = transcript_turns("user:\n  hello", acknowledged=True)
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert turns[1] == assistant(ACKNOWLEDGEMENT)


@pytest.mark.parametrize("turns", [(), (user("hello"),), (user(BEFORE_TRANSCRIPT),)])
def test_a_conversation_is_not_a_transcript(turns: tuple[Turn, ...]) -> None:
    assert shown_transcript(turns) is None


# --- a conversation ---------------------------------------------------------------------------

RESULT = Turn(role="user", parts=(ToolResult(tool_call_id="c", content="22 °C"),))
CALL = Turn(role="assistant", parts=(ToolCall(id="c", name="weather", arguments="{}"),))


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (user("hello"),),
        (user("hello"), assistant("good day")),
        (user("hello"), CALL, RESULT),
    ],
)
def test_a_conversation_is_sent_unchanged_before_the_prompt(turns: tuple[Turn, ...]) -> None:
    asked = self_turns(turns, "Sum it up.")
    assert asked[: len(turns)] == turns
    assert asked[-1] == user(f"Sum it up.\n\n{CLOSING}")
    assert all(one.role != other.role for one, other in pairwise(asked))
    assert turns_summarised(asked) == turns
    assert shown_transcript(asked) is None


def test_an_assistant_that_did_not_speak_last_pauses_first() -> None:
    assert self_turns((user("hello"),), "p")[1] == assistant(PAUSE)
    assert len(self_turns((user("hello"), assistant("hi")), "p")) == 3


@pytest.mark.parametrize("turns", [(), (user("hello"),), (assistant(CLOSING),), (RESULT,)])
def test_a_conversation_that_goes_on_asks_for_no_summary(turns: tuple[Turn, ...]) -> None:
    assert turns_summarised(turns) is None
