"""Compactions afterwards: in the list of messages, in the history, one in full."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from domain.conversation import (
    Attempt,
    ConversationEvent,
    WindowCompactionStarted,
    WindowRolledBack,
)
from domain.event import Event
from projections.audit import (
    CompactionRow,
    compaction_shown,
    failure_shown,
    history_of,
)
from projections.items import SummaryItem
from projections.listing import messages_of, unlisted
from projections.marks import marks_of, summary_of
from projections.summary import packed, stats_of
from projections.window import window_of
from tests.compactions import (
    COMPACTION_ID,
    OTHER_COMPACTION_ID,
    SUMMARY,
    begun,
    compacted,
    crowded,
    done,
    failed,
    redone,
    summary_id_of,
    told,
    undone,
)
from tests.examples import (
    MESSAGE_ID,
    REPLY_ID,
    RUN_ID,
)
from tests.projections.compacted import compacted_histories, leaving_with
from tests.projections.histories import Facts, recorded

DATE = "2026-01-02T03:04:05+00:00"


# --- lists ------------------------------------------------------------------------------------


def listed(*events: Event) -> list[Any]:
    facts = recorded(*events)
    return [item for _, items in messages_of(facts, unlisted(facts)) for item in items]


def test_a_summary_is_listed_as_the_message_that_the_model_is_given() -> None:
    *_, shown = listed(*done)
    assert (shown["message_type"], shown["id"]) == ("user_message", summary_id_of(COMPACTION_ID))
    assert shown["content"] == packed(window_summary(*done))
    assert (shown["run_id"], shown["step_id"]) == (None, None)
    assert {MESSAGE_ID, REPLY_ID} <= {one["id"] for one in listed(*done)}


def window_summary(*events: Event) -> SummaryItem:
    summary = window_of(recorded(*events)).summary
    assert summary is not None
    return summary


def test_a_summary_that_holds_no_more_is_not_listed_until_it_does_again() -> None:
    def ids(*events: Event) -> list[str]:
        return [one["id"] for one in listed(*events)]

    summary_id = summary_id_of(COMPACTION_ID)
    gone = WindowRolledBack(run_ids=(RUN_ID,), message_ids=(), compaction_ids=(COMPACTION_ID,))
    assert summary_id in ids(*done)
    assert summary_id not in ids(*done, undone())
    assert summary_id in ids(*done, undone(), redone())
    assert summary_id not in ids(*done, gone)


def test_a_summary_that_a_later_one_stands_for_is_still_listed() -> None:
    at = len(done)
    again = compacted(OTHER_COMPACTION_ID, (at, at), planned_at=at)
    ids = [one["id"] for one in listed(*done, begun(OTHER_COMPACTION_ID), again)]
    assert ids[-2:] == [summary_id_of(COMPACTION_ID), summary_id_of(OTHER_COMPACTION_ID)]


def test_a_packed_summary_says_what_is_hidden_and_where_it_is() -> None:
    told_of = orjson.loads(packed(window_summary(*done)))
    assert told_of["type"] == "system_alert"
    assert told_of["message"].endswith(
        f"The following is a summary of the previous messages:\n {SUMMARY}"
    )
    assert told_of["time"] == DATE
    assert told_of["message"].startswith("4 earlier messages are hidden")
    assert told_of["recall"].startswith("offsets 3 to 5, by conversation_search(query)")
    assert "compaction_stats" not in told_of


def test_the_arithmetic_is_packed_with_the_summary_of_an_automatic_compaction() -> None:
    summary = window_summary(*crowded())
    assert orjson.loads(packed(summary))["compaction_stats"] == stats_of(summary)


# --- the history ------------------------------------------------------------------------------


def row_of(*events: ConversationEvent) -> CompactionRow:
    (row,) = history_of(recorded(*events))
    return row


gone = WindowRolledBack(run_ids=(RUN_ID,), message_ids=(), compaction_ids=(COMPACTION_ID,))
STATUSES: dict[str, tuple[tuple[ConversationEvent, ...], int, int | None]] = {
    "running": ((*told, begun()), 9, None),
    "failed": ((*told, begun(), failed()), 10, None),
    "active": (done, 10, None),
    "undone": ((*done, undone()), 10, 11),
    "rolled_back": ((*done, gone), 10, None),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_compaction_in_the_history_says_how_it_stands(status: str) -> None:
    events, offset, undone_at = STATUSES[status]
    row = row_of(*events)
    assert (row.status, row.offset, row.undone_at) == (status, offset, undone_at)
    assert (row.compaction_id, row.trigger, row.tokens_before) == (COMPACTION_ID, "manual", 7500)
    assert (row.tokens_after is None) == (status in ("running", "failed"))
    assert row.reason == ("summariser_failed" if status == "failed" else None)


def test_one_that_was_redone_is_active_and_one_undone_and_rolled_back_is_gone() -> None:
    again = row_of(*done, undone(), redone())
    assert (again.status, again.undone_at) == ("active", None)
    lost = row_of(*done, undone(), gone)
    assert (lost.status, lost.undone_at) == ("rolled_back", 11)


def test_the_history_is_in_the_order_in_which_they_began() -> None:
    other = begun(OTHER_COMPACTION_ID)
    rows = history_of(recorded(*told, begun(), failed(reason="lost"), other))
    assert [(row.compaction_id, row.status) for row in rows] == [
        (COMPACTION_ID, "failed"),
        (OTHER_COMPACTION_ID, "running"),
    ]


def test_one_in_full_has_what_left_as_it_stood_and_where_what_stayed_is() -> None:
    facts = recorded(*told, begun(), compacted(COMPACTION_ID, (3, 3), planned_at=8, before=5))
    compaction = marks_of(facts).compactions[COMPACTION_ID]
    shown = compaction_shown(compaction, window_of(facts[:8]))
    assert [one.message_id for one in shown.evicted] == [MESSAGE_ID]
    assert shown.kept == (5,)
    assert (shown.summary, shown.summary_message_id) == (SUMMARY, summary_id_of(COMPACTION_ID))
    assert (shown.planned_at, shown.recompiled, shown.status) == (8, False, "active")


def test_one_that_failed_in_full_has_its_attempts() -> None:
    attempt = Attempt(mode="all", failure="empty_summary")
    row = row_of(*told, begun(), failed(reason="empty_summary"))
    shown = failure_shown(row, (attempt,))
    assert (shown.status, shown.reason, shown.attempts) == ("failed", "empty_summary", (attempt,))
    assert (shown.evicted, shown.summary) == ((), None)


@settings(max_examples=25, deadline=None)
@given(compacted_histories())
def test_the_history_tells_of_every_compaction_and_of_what_left_with_it(facts: Facts) -> None:
    rows = {row.compaction_id: row for row in history_of(facts)}
    marks = marks_of(facts)
    assert list(rows) == [
        one.event.compaction_id for one in facts if isinstance(one.event, WindowCompactionStarted)
    ]
    for key, compaction in marks.compactions.items():
        before = window_of(facts[: compaction.fact.event.audit.planned_at])
        shown = compaction_shown(compaction, before)
        assert tuple(one.message_id for one in shown.evicted) == leaving_with(facts, key)
        assert (rows[key].status == "active") == compaction.active
        assert len(shown.evicted) + len(shown.kept) == len(before.items)
        assert summary_of(compaction.fact).hidden == len(shown.evicted)
    active = {one.fact.event.compaction_id for one in marks.active}
    assert {key for key, row in rows.items() if row.status == "active"} == active
