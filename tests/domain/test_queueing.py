"""How a request is taken in: once, in its turn, or not at all."""

from dataclasses import replace
from typing import get_args

import pytest

from domain.content import ToolSchema
from domain.conversation import (
    CancelRuns,
    ConversationCommand,
    HideRun,
    MessageQueued,
    MessageWithdrawn,
    RecordCallback,
    WindowRolledBack,
    conversation,
    decide,
)
from domain.conversation.decide import _DECISIONS  # pyright: ignore[reportPrivateUsage]
from domain.conversation.evolve import KEYS_MAX
from domain.errors import Busy, KeyReused, NotFound, Refused, Stale
from domain.run import (
    RunCalledBack,
    RunCancelRequested,
    RunFinished,
    RunHidden,
    RunQueued,
    RunUsage,
)
from tests.examples import (
    BODY_HASH,
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    RUN_ID,
    appended,
    claim,
    claimed,
    deleted,
    finished,
    queue,
    queued,
    started,
    waiting,
)
from tests.given import given, state_of

THIRD_RUN_ID = "run-33333333-3333-4333-8333-333333333333"
busy = (started, queued(), appended(), claimed())
unclaimed = (started, queued(), appended())
again = queue(NEXT_RUN_ID, NEXT_MESSAGE_ID)
KEY = ("key:k",)
WEATHER = ToolSchema(name="weather")


def test_every_command_has_its_decision() -> None:
    assert set(_DECISIONS) == set(get_args(ConversationCommand))


def cancelled(run_id: str, epoch: int | None = None) -> RunFinished:
    return RunFinished(
        run_id=run_id,
        epoch=epoch,
        status="cancelled",
        stop_reason="cancelled",
        usage=RunUsage(),
    )


# --- the same request again -------------------------------------------------------------------


def test_the_same_request_twice_is_recorded_once_also_after_its_end() -> None:
    keyed = replace(again, keys=KEY)
    for history in ((started, queued(keys=KEY)), (started, queued(keys=KEY), finished(epoch=None))):
        given(conversation, *history).when(keyed).then_nothing_happens()
        other = replace(keyed, body_hash="other")
        given(conversation, *history).when(other).then_refused(KeyReused, saying=RUN_ID)


def test_a_known_request_is_known_even_where_it_would_be_turned_down() -> None:
    keyed = replace(again, keys=KEY, on_busy="reject")
    given(conversation, started, queued(keys=KEY), claimed()).when(keyed).then_nothing_happens()


def test_otids_overlap_whole_or_not_at_all() -> None:
    history = (started, queued(keys=("otid:1", "otid:2")))
    for keys in (("otid:1", "otid:2"), ("otid:2",), ("key:new", "otid:1")):
        given(conversation, *history).when(replace(again, keys=keys)).then_nothing_happens()
    mixed = replace(again, keys=("otid:1", "otid:3"))
    given(conversation, *history).when(mixed).then_refused(KeyReused)
    two = (*history, queued(NEXT_RUN_ID, keys=("otid:3",)))
    both = replace(queue(THIRD_RUN_ID), keys=("otid:1", "otid:3"))
    given(conversation, *two).when(both).then_refused(KeyReused)


def test_keys_are_bounded_and_it_is_known_that_some_are_forgotten() -> None:
    runs = [queued(f"run-{n}", keys=(f"key:{n}",)) for n in range(KEYS_MAX)]
    full = state_of(conversation, started, *runs)
    assert not full.keys_forgotten
    state = conversation.evolve(full, queued("run-x", keys=("key:x",)), 0)
    assert len(state.keys) == KEYS_MAX
    assert state.keys_forgotten
    assert "key:0" not in state.keys
    assert state.keys["key:x"].body_hash == BODY_HASH


def test_an_equal_list_of_tools_is_named_by_where_it_stands() -> None:
    tooled = replace(queue(), tools=(WEATHER,))
    first = given(conversation, started).when(tooled).decided()[0]
    assert isinstance(first, RunQueued)
    assert (first.tools, first.tools_at) == ((WEATHER,), None)
    history = (started, first, finished(epoch=None))
    second = given(conversation, *history).when(replace(again, tools=(WEATHER,))).decided()[0]
    assert isinstance(second, RunQueued)
    assert (second.tools, second.tools_at) == (None, 2)
    other = replace(again, tools=(ToolSchema(name="map"),))
    third = given(conversation, *history).when(other).decided()[0]
    assert isinstance(third, RunQueued)
    assert third.tools == (ToolSchema(name="map"),)
    state = state_of(conversation, *history, second)
    assert [run.tools_at for run in state.runs.values()] == [2]


# --- while another run is not over ------------------------------------------------------------


def test_a_busy_conversation_turns_down_what_will_not_wait() -> None:
    for history in (busy, unclaimed):
        command = replace(again, on_busy="reject")
        given(conversation, *history).when(command).then_refused(Busy, saying=RUN_ID)


@pytest.mark.parametrize(
    ("on_busy", "mode"), [("enqueue", "enqueue"), ("steer", "steer")], ids=lambda one: one
)
def test_what_waits_says_how(on_busy: str, mode: str) -> None:
    command = replace(again, on_busy=on_busy)
    first, second = given(conversation, *busy).when(command).decided()
    assert isinstance(first, RunQueued)
    assert isinstance(second, MessageQueued)
    assert second.mode == mode


def test_an_interruption_cancels_the_active_run_alone_and_goes_first() -> None:
    third = replace(queue(THIRD_RUN_ID), on_busy="interrupt")
    history = (*busy, queued(NEXT_RUN_ID), waiting())
    facts = given(conversation, *history).when(third).decided()
    assert [type(fact) for fact in facts] == [RunQueued, MessageQueued, RunCancelRequested]
    assert facts[2] == RunCancelRequested(run_ids=(RUN_ID,), reason="interrupt")
    state = state_of(conversation, *history, *facts)
    assert list(state.runs) == [RUN_ID, THIRD_RUN_ID, NEXT_RUN_ID]
    assert state.runs[RUN_ID].cancelled == "interrupt"
    assert state.runs[NEXT_RUN_ID].cancelled is None


def test_a_second_interruption_cancels_nothing_anew_and_goes_before_the_first() -> None:
    one = replace(again, on_busy="interrupt")
    history = (*busy, *given(conversation, *busy).when(one).decided())
    two = replace(queue(THIRD_RUN_ID), on_busy="interrupt")
    facts = given(conversation, *history).when(two).decided()
    assert [type(fact) for fact in facts] == [RunQueued, MessageQueued]
    assert list(state_of(conversation, *history, *facts).runs) == [
        RUN_ID,
        THIRD_RUN_ID,
        NEXT_RUN_ID,
    ]


@pytest.mark.parametrize("on_busy", ["interrupt", "rollback"])
def test_a_run_that_nobody_has_begun_is_over_at_once(on_busy: str) -> None:
    facts = given(conversation, *unclaimed).when(replace(again, on_busy=on_busy)).decided()
    assert facts[3] == cancelled(RUN_ID)
    rolled_back = [fact for fact in facts if isinstance(fact, WindowRolledBack)]
    hidden = [WindowRolledBack(run_ids=(RUN_ID,), message_ids=(MESSAGE_ID,))]
    assert rolled_back == (hidden if on_busy == "rollback" else [])


def test_a_rollback_after_a_cancel_still_takes_the_turn_back() -> None:
    history = (*busy, RunCancelRequested(run_ids=(RUN_ID,), reason="user"))
    facts = given(conversation, *history).when(replace(again, on_busy="rollback")).decided()
    assert facts[2] == RunCancelRequested(run_ids=(RUN_ID,), reason="rollback")


# --- cancel -----------------------------------------------------------------------------------


def test_all_runs_are_asked_to_stop_and_what_waits_is_withdrawn() -> None:
    history = (*busy, queued(NEXT_RUN_ID), waiting())
    given(conversation, *history).when(CancelRuns()).then(
        RunCancelRequested(run_ids=(RUN_ID, NEXT_RUN_ID), reason="user"),
        MessageWithdrawn(message_ids=(NEXT_MESSAGE_ID,), reason="user"),
        cancelled(NEXT_RUN_ID),
    )


def test_only_those_that_are_named_are() -> None:
    history = (*busy, queued(NEXT_RUN_ID), waiting())
    given(conversation, *history).when(CancelRuns((RUN_ID,))).then(
        RunCancelRequested(run_ids=(RUN_ID,), reason="user")
    )
    given(conversation, *history).when(CancelRuns(("run-x",))).then_refused(Refused)


def test_a_repeated_cancel_is_nothing_new_and_one_of_nothing_is_refused() -> None:
    history = (*busy, RunCancelRequested(run_ids=(RUN_ID,), reason="user"))
    given(conversation, *history).when(CancelRuns()).then_nothing_happens()
    given(conversation, started).when(CancelRuns()).then_refused(Refused)
    given(conversation, *busy, finished()).when(CancelRuns()).then_refused(Refused)
    given(conversation, *busy, deleted).when(CancelRuns()).then_refused(NotFound)


# --- afterwards -------------------------------------------------------------------------------


def test_a_run_is_hidden_once_it_is_over() -> None:
    given(conversation, *busy).when(HideRun(RUN_ID)).then_refused(Refused, saying="cancel it")
    given(conversation, *busy, finished()).when(HideRun(RUN_ID)).then(RunHidden(run_id=RUN_ID))


def test_what_came_of_a_callback_is_noted_also_of_a_deleted_conversation() -> None:
    told = RunCalledBack(run_id=RUN_ID, attempts=2, status_code=200)
    command = RecordCallback(RUN_ID, 2, 200)
    given(conversation, *busy, finished()).when(command).then(told)
    given(conversation, started, deleted).when(command).then(told)
    failed = RecordCallback(RUN_ID, 8, error="ConnectError")
    noted = RunCalledBack(run_id=RUN_ID, attempts=8, error="ConnectError")
    given(conversation, started).when(failed).then(noted)


def test_a_decision_is_the_same_however_often_it_is_made() -> None:
    state = state_of(conversation, *busy)
    assert decide(state, again) == decide(state, again)


# --- whose turn it is -------------------------------------------------------------------------


def test_a_run_that_waits_for_its_turn_cannot_be_claimed() -> None:
    facts = (started, queued(), claimed(), queued(NEXT_RUN_ID))
    given(conversation, *facts).when(claim(NEXT_RUN_ID)).then_refused(
        Stale, saying="cannot be claimed"
    )


def test_a_run_is_claimed_once_under_each_epoch() -> None:
    given(conversation, started, queued(), claimed()).when(claim()).then_refused(Stale)
    given(conversation, started, queued(), claimed()).when(claim(epoch=3)).then_refused(Stale)
