"""How a window is taken over from elsewhere: what had left it there leaves it here, once."""

from domain.conversation import (
    DeleteConversation,
    ImportCompaction,
    ImportMessages,
    SaidMessage,
    SaidReply,
    SaidReturn,
    WindowCompactionFailed,
    conversation,
)
from domain.errors import Busy, NotFound, Stale
from domain.run import CalledTool, StepPart, ToolFinished
from projections.items import SummaryItem
from projections.listing import messages_of
from projections.window import window_of
from tests.compactions import COMPACTION_ID, OTHER_COMPACTION_ID, begun, compacted
from tests.examples import RUN_ID, appended, queued, started
from tests.given import given
from tests.projections.histories import recorded

said = ImportMessages(
    RUN_ID, "import:0", "b", (SaidMessage("user", "Long ago."), SaidMessage("user", "Just now."))
)
# Offset 2 is the run's, 3 and 4 are the messages.
history = (started, *given(conversation, started).when(said).decided())


def taking_over(summary: str = "") -> ImportCompaction:
    left = compacted(
        COMPACTION_ID, (3, 3), planned_at=len(history), before=4, trigger="import", summary=summary
    )
    return ImportCompaction(begun(trigger="import"), left)


def test_what_had_left_the_window_elsewhere_leaves_it_in_one_append() -> None:
    command = taking_over()
    given(conversation, *history).when(command).then(command.started, command.compacted)


def test_it_leaves_once() -> None:
    command = taking_over()
    after = (*history, command.started, command.compacted)
    given(conversation, *after).when(command).then_nothing_happens()


def test_a_compaction_that_nobody_is_at_any_more_is_no_obstacle() -> None:
    command = taking_over()
    facts = given(conversation, *history, begun(OTHER_COMPACTION_ID)).when(command).decided()
    assert isinstance(facts[0], WindowCompactionFailed)
    assert (facts[0].compaction_id, facts[0].reason) == (OTHER_COMPACTION_ID, "lost")
    assert facts[1:] == [command.started, command.compacted]


def test_a_window_that_is_in_use_is_not_taken_over() -> None:
    busy = (*history, queued(run_id="run-x"), appended(run_id="run-x", message_id="message-x"))
    given(conversation, *busy).when(taking_over()).then_refused(Busy)
    moved = compacted(OTHER_COMPACTION_ID, (4, 4), planned_at=len(history))
    given(conversation, *history, begun(OTHER_COMPACTION_ID), moved).when(
        taking_over()
    ).then_refused(Stale, saying="the window was changed")
    gone = given(conversation, *history).when(DeleteConversation()).decided()
    given(conversation, *history, *gone).when(taking_over()).then_refused(NotFound)


def test_what_left_without_a_summary_puts_none_into_the_window_or_the_list() -> None:
    command = taking_over()
    facts = recorded(*history, command.started, command.compacted)
    assert [item.offset for item in window_of(facts).items] == [4]
    assert [items[0]["message_type"] for _, items in messages_of(facts)] == [
        "system_message",
        "user_message",
        "user_message",
    ]


def test_a_summary_that_came_along_stands_where_it_stood() -> None:
    command = taking_over("They met.")
    facts = recorded(*history, command.started, command.compacted)
    first, second = window_of(facts).items
    assert isinstance(first, SummaryItem)
    assert (first.summary, first.stats.trigger, second.offset) == ("They met.", "import", 4)


def test_otids_and_who_ran_a_tool_are_kept_where_they_are_known() -> None:
    call = StepPart(s=0, i=0, kind="call", call=CalledTool(id="c", name="weather", arguments="{}"))
    message = SaidMessage("user", "Hello!", otid="mine")
    reply = SaidReply((call,), (SaidReturn("c", "18 C", source="server"),))
    command = ImportMessages(RUN_ID, "import:0", "b", (message, reply))
    facts = given(conversation, started).when(command).decided()
    assert [getattr(one, "otid", None) for one in facts if one.type == "message.appended"] == [
        "mine"
    ]
    assert [one.source for one in facts if isinstance(one, ToolFinished)] == ["server"]
