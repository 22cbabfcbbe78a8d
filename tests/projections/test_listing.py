from typing import Any

from domain.conversation import MessageAppended
from domain.event import Event
from domain.events import REGISTRY
from domain.run import StepFinished, StepPart
from domain.streams import system_message_id
from projections.listing import LISTED, messages_of
from tests.examples import (
    CONVERSATION_ID,
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    OTID,
    REPLY_ID,
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

asked: tuple[Event, ...] = (started, queued(), appended(), claimed(), step_started())


def listed(*events: Event) -> list[tuple[int, list[Any]]]:
    return list(messages_of(recorded(*events)))


def ids(*events: Event) -> list[str]:
    return [items[0]["id"] for _, items in listed(*events)]


def test_a_conversation_begins_with_its_system_prompt() -> None:
    ((place, items),) = listed(started)
    assert place == 1
    assert items[0]["message_type"] == "system_message"


def test_messages_are_listed_where_they_entered_and_replies_where_their_step_started() -> None:
    found = listed(*asked, delta(), part(), step_finished(), finished())
    assert [place for place, _ in found] == [1, 3, 5]
    assert [items[0]["id"] for _, items in found] == [
        system_message_id(CONVERSATION_ID),
        MESSAGE_ID,
        REPLY_ID,
    ]


def test_all_parts_of_a_step_are_one_message() -> None:
    thought = StepPart(s=5, i=0, kind="reasoning", text="hm")
    spoken = StepPart(s=5, i=1, kind="text", text="Good day.")
    ((_, items),) = listed(*asked, thought, spoken, step_finished())[2:]
    assert [item["message_type"] for item in items] == ["reasoning_message", "assistant_message"]
    assert {item["id"] for item in items} == {REPLY_ID}
    assert len({item["otid"] for item in items}) == 2


def test_a_reply_is_listed_when_it_is_finished_and_not_before() -> None:
    assert REPLY_ID not in ids(*asked, delta(), part())


def test_failed_and_superseded_steps_are_not_listed() -> None:
    failed = StepFinished(s=5, outcome="failed", parts=0)
    assert REPLY_ID not in ids(*asked, delta(), part(), failed)
    assert REPLY_ID not in ids(*asked, delta(), superseded())


def test_an_interrupted_step_is_listed_with_what_it_had_said() -> None:
    interrupted = StepFinished(s=5, outcome="interrupted", parts=1)
    _, items = listed(*asked, part(text="Good d"), interrupted)[-1]
    assert items[0]["content"] == "Good d"


def test_a_step_that_said_nothing_is_not_listed() -> None:
    assert REPLY_ID not in ids(*asked, StepFinished(s=5, outcome="interrupted", parts=0))


def test_a_waiting_message_is_listed_once_it_has_entered() -> None:
    line = (*asked, queued(NEXT_RUN_ID), waiting())
    assert NEXT_MESSAGE_ID not in ids(*line)
    assert NEXT_MESSAGE_ID in ids(*line, appended(NEXT_RUN_ID, NEXT_MESSAGE_ID, queued=7))


def test_a_step_whose_beginning_was_not_read_is_not_listed() -> None:
    ((place, _),) = messages_of(recorded(part(0), step_finished(0), appended()))
    assert place == 3


def test_answers_to_approvals_are_listed() -> None:
    approval = MessageAppended(
        message_id=NEXT_MESSAGE_ID, otid=OTID, role="approval", approvals=(), run_id=NEXT_RUN_ID
    )
    assert NEXT_MESSAGE_ID in ids(*asked, approval)


def test_the_types_that_a_list_reads_exist() -> None:
    assert set(REGISTRY) >= LISTED
