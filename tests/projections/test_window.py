from typing import Literal

import pytest

from domain.content import Image, Reasoning, Redacted, Text, ToolCall, UrlSource
from domain.conversation import MessageAppended
from domain.event import Event
from domain.run import CalledTool, Span, StepFinished, StepPart, Usage
from domain.streams import system_message_id
from projections.items import StepItem, spoken
from projections.shown_window import shown
from projections.sizes import tokens_of
from projections.tokens import estimate
from projections.window import Window, window_of
from tests.examples import (
    CONVERSATION_ID,
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    OTID,
    REPLY_ID,
    SYSTEM,
    appended,
    claimed,
    delta,
    finished,
    part,
    queued,
    started,
    step_finished,
    step_started,
    superseded,
    waiting,
)
from tests.projections.histories import recorded

# A conversation up to the offset 5, where the model is called.
asked: tuple[Event, ...] = (started, queued(), appended(), claimed(), step_started())
answered: tuple[Event, ...] = (*asked, delta(), part(), step_finished(), finished())


def fold(*events: Event) -> Window:
    return window_of(recorded(*events))


def message_ids(window: Window) -> list[str]:
    return [item.message_id for item in window.items]


def outcome(
    outcome: Literal["ok", "interrupted", "failed"], s: int = 5, usage: Usage | None = None
) -> StepFinished:
    return StepFinished(s=s, outcome=outcome, parts=1, usage=usage)


def test_a_window_of_nothing_is_empty() -> None:
    empty = shown(Window())
    assert (empty.at, empty.system, empty.messages, empty.cutoff) == (0, None, (), None)
    assert empty.tokens.total == 0


def test_messages_and_finished_steps_are_in_the_window_in_order() -> None:
    window = fold(*answered)
    assert message_ids(window) == [MESSAGE_ID, REPLY_ID]
    assert [item.offset for item in window.items] == [3, 5]


def test_the_place_of_a_reply_is_where_its_step_started() -> None:
    assert shown(fold(*answered)).messages[-1].offset == 5


def test_deltas_are_not_in_the_window() -> None:
    assert message_ids(fold(*asked, delta(), delta())) == [MESSAGE_ID]


def test_the_parts_of_a_step_enter_when_it_finishes_and_not_before() -> None:
    assert message_ids(fold(*asked, part())) == [MESSAGE_ID]
    assert message_ids(fold(*asked, part(), step_finished())) == [MESSAGE_ID, REPLY_ID]


def test_a_waiting_message_enters_when_its_run_is_claimed() -> None:
    in_line = (*asked, queued(NEXT_RUN_ID), waiting())
    entered = appended(NEXT_RUN_ID, NEXT_MESSAGE_ID, "And then?", queued=7)
    assert message_ids(fold(*in_line)) == [MESSAGE_ID]
    assert message_ids(fold(*in_line, entered)) == [MESSAGE_ID, NEXT_MESSAGE_ID]


def test_a_superseded_step_is_not_in_the_window_even_if_parts_of_it_follow() -> None:
    lost = fold(*asked, delta(), superseded(), part(), step_finished())
    assert message_ids(lost) == [MESSAGE_ID]
    assert not lost.open_steps


def test_a_failed_step_is_not_in_the_window_but_its_question_stays() -> None:
    assert message_ids(fold(*asked, delta(), part(), outcome("failed"))) == [MESSAGE_ID]


def test_the_end_of_a_run_closes_its_open_step_and_no_other() -> None:
    other = step_started(NEXT_RUN_ID)
    window = fold(*asked, other, finished())
    assert [step.run_id for step in window.open_steps.values()] == [NEXT_RUN_ID]
    assert message_ids(fold(*asked, finished(), part(), step_finished())) == [MESSAGE_ID]


def test_an_interrupted_step_is_in_the_window_and_marked() -> None:
    kept = fold(*asked, part().model_copy(update={"interrupted": True}), outcome("interrupted"))
    assert shown(kept).messages[-1].interrupted
    assert shown(kept).messages[-1].parts == (Text(text="Good day."),)


def test_a_step_that_said_nothing_is_not_in_the_window() -> None:
    assert message_ids(fold(*asked, outcome("interrupted"))) == [MESSAGE_ID]
    assert message_ids(fold(*asked, outcome("ok"))) == [MESSAGE_ID]


def test_parts_of_two_open_steps_do_not_mix() -> None:
    window = fold(
        *asked,
        step_started(NEXT_RUN_ID),
        part(5, "five"),
        part(6, "six"),
        step_finished(6),
        step_finished(5),
    )
    items = [item for item in window.items if isinstance(item, StepItem)]
    assert [(item.offset, item.parts[0].text) for item in items] == [(5, "five"), (6, "six")]


def test_answers_to_approvals_are_not_messages() -> None:
    approval = MessageAppended(
        message_id=NEXT_MESSAGE_ID, otid=OTID, role="approval", approvals=(), run_id=NEXT_RUN_ID
    )
    assert message_ids(fold(*answered, approval)) == [MESSAGE_ID, REPLY_ID]


def test_the_system_prompt_is_the_one_that_the_conversation_started_with() -> None:
    system = shown(fold(*answered)).system
    assert system is not None
    assert (system.offset, system.text) == (1, SYSTEM.text)
    assert system.message_id == system_message_id(CONVERSATION_ID)
    assert system.blocks == SYSTEM.blocks


@pytest.mark.parametrize("at", range(len(answered) + 1))
def test_the_window_at_an_offset_knows_nothing_of_what_came_later(at: int) -> None:
    window = fold(*answered[:at])
    assert window.at == at
    assert all(item.offset <= at for item in window.items)
    assert len(window.items) == (2 if at >= 8 else 1 if at >= 3 else 0)


def test_the_cutoff_is_the_offset_of_the_first_item() -> None:
    assert fold(*asked[:2]).cutoff is None
    assert fold(*answered).cutoff == 3


def test_the_spans_reach_from_the_first_item_to_the_last() -> None:
    assert fold(started).spans == ()
    assert fold(*answered).spans == (Span(first=3, last=5),)


def test_parts_are_shown_with_all_that_they_hold() -> None:
    call = CalledTool(id="call-1", name="weather", arguments='{"city":"Ulm"}')
    assert spoken(StepPart(s=5, i=0, kind="text", text="a")) == Text(text="a")
    assert spoken(StepPart(s=5, i=0, kind="reasoning", text="b", signature="c")) == Reasoning(
        text="b", signature="c"
    )
    assert spoken(StepPart(s=5, i=0, kind="redacted", text="d")) == Redacted(data="d")
    assert spoken(StepPart(s=5, i=0, kind="call", call=call)) == ToolCall(
        id="call-1", name="weather", arguments='{"city":"Ulm"}'
    )


def test_a_call_part_without_a_call_is_an_error_that_names_the_part() -> None:
    with pytest.raises(ValueError, match="part 2 of step 5"):
        spoken(StepPart(s=5, i=2, kind="call"))


# --- tokens -----------------------------------------------------------------------------------


def test_without_reported_usage_everything_is_estimated() -> None:
    tokens = tokens_of(fold(*asked))
    assert (tokens.system, tokens.messages) == (estimate(SYSTEM.text), estimate("Hello!"))
    assert tokens.total == tokens.system + tokens.messages
    assert (tokens.reported, tokens.reported_at) == (None, None)


def test_reported_usage_is_the_truth_and_only_what_came_after_it_is_estimated() -> None:
    usage = Usage(input_tokens=700, output_tokens=50)
    later = appended(NEXT_RUN_ID, NEXT_MESSAGE_ID, "And then?")
    tokens = tokens_of(fold(*asked, part(), outcome("ok", usage=usage), finished(), later))
    assert (tokens.reported, tokens.reported_at) == (750, 5)
    assert tokens.total == 750 + estimate("And then?")
    assert tokens.messages == estimate("Hello!") + estimate("Good day.") + estimate("And then?")


def test_the_newest_reported_usage_counts_and_a_reply_without_one_is_estimated() -> None:
    usage = Usage(input_tokens=70, output_tokens=5)
    again = (step_started(index=1), part(8, "More."), outcome("ok", s=8, usage=usage))
    silent = (step_started(index=2), part(11, "Yet more."), outcome("interrupted", s=11))
    first = outcome("ok", usage=Usage(input_tokens=1000))
    tokens = tokens_of(fold(*asked, part(), first, *again, *silent))
    assert (tokens.reported, tokens.reported_at) == (75, 8)
    assert tokens.total == 75 + estimate("Yet more.")


def test_a_report_of_no_tokens_at_all_is_none() -> None:
    tokens = tokens_of(fold(*asked, part(), outcome("ok", usage=Usage())))
    assert (tokens.reported, tokens.total) == (None, tokens.system + tokens.messages)


def test_calls_are_estimated_by_their_arguments_and_pictures_not_at_all() -> None:
    call = CalledTool(id="call-1", name="weather", arguments='{"city":"Ulm"}')
    picture = (Text(text="Look: "), Image(source=UrlSource(url="https://example.org/a")))
    window = fold(
        started,
        queued(),
        appended(content=picture),
        claimed(),
        step_started(),
        StepPart(s=5, i=0, kind="call", call=call),
        outcome("ok"),
    )
    assert tokens_of(window).messages == estimate("Look: ") + estimate('{"city":"Ulm"}')


def test_an_estimate_counts_bytes_and_not_letters() -> None:
    assert (estimate(""), estimate("abcd"), estimate("éé")) == (0, 1, 1)
    assert estimate("x" * 400) == 130
