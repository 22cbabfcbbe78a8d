"""Calls that wait for the client, calls that the server runs, and messages that join a turn."""

from dataclasses import replace
from typing import Any

from domain.content import Approval, ToolAnswer, ToolSchema
from domain.conversation import (
    CancelRuns,
    FinishRun,
    FinishStep,
    FinishTool,
    JoinSteers,
    MessageAppended,
    MessageQueued,
    NewApproval,
    QueueRun,
    StartTool,
    SupersedeStep,
    WindowRolledBack,
    conversation,
)
from domain.errors import Refused, Stale, Unasked, Waiting
from domain.run import (
    CalledTool,
    Claim,
    CloseCall,
    EndRun,
    LetIn,
    RunFinished,
    RunQueued,
    RunTool,
    StepPart,
    StepSuperseded,
    TakeStep,
    ToolFinished,
    ToolStarted,
    pending,
)
from tests.examples import (
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    OTID,
    REPLY_ID,
    RUN_ID,
    STEP_ID,
    appended,
    cancel_requested,
    claimed,
    queue,
    queued,
    start_step,
    started,
    step_started,
    waiting,
)
from tests.given import given, state_of

S = 5
stepping = (started, queued(), appended(), claimed(), step_started())
THIRD_RUN_ID = "run-33333333-3333-4333-8333-333333333333"


def call(i: int, name: str, *, gated: bool = False) -> StepPart:
    called = CalledTool(id=f"call-{i}", name=name, arguments="{}")
    if gated:
        called = called.model_copy(update={"gated": True})
    return StepPart(s=S, i=i, kind="call", call=called)


def replied(*parts: StepPart) -> list[Any]:
    finish = FinishStep(RUN_ID, 1, S, "ok", parts=parts, finish_reason="tool_call")
    return [*stepping, *given(conversation, *stepping).when(finish).decided()]


asked = replied(call(0, "weather", gated=True))
mixed = replied(call(0, "weather", gated=True), call(1, "count"), call(2, "map", gated=True))
working = replied(call(0, "count"), call(1, "wait"))


def answering(*answers: Any, run_id: str = NEXT_RUN_ID, **more: Any) -> QueueRun:
    approval = NewApproval(NEXT_MESSAGE_ID, OTID, answers)
    return replace(queue(run_id), messages=(), approval=approval, body_hash="answer", **more)


def returned(name: str = "call-0") -> ToolAnswer:
    return ToolAnswer(tool_call_id=name, tool_return="sunny")


# --- asking -----------------------------------------------------------------------------------


def test_a_run_ends_with_the_question_and_nothing_else_goes_on() -> None:
    ending = asked[-1]
    assert isinstance(ending, RunFinished)
    assert (ending.status, ending.stop_reason) == ("completed", "requires_approval")
    for on_busy in ("reject", "enqueue", "steer"):
        command = replace(queue(NEXT_RUN_ID), on_busy=on_busy)
        given(conversation, *asked).when(command).then_refused(Waiting)


def test_what_had_waited_waits_on() -> None:
    facts = [*stepping, queued(NEXT_RUN_ID), waiting()]
    finish = FinishStep(RUN_ID, 1, S, "ok", parts=(call(0, "weather", gated=True),))
    history = [*facts, *given(conversation, *facts).when(finish).decided()]
    state = state_of(conversation, *history)
    assert state.next_run is None
    assert list(state.runs) == [NEXT_RUN_ID]
    answered = given(conversation, *history).when(answering(returned(), run_id=THIRD_RUN_ID))
    after = state_of(conversation, *history, *answered.decided())
    assert after.next_run is not None
    assert after.next_run.run_id == THIRD_RUN_ID


def test_with_calls_of_both_kinds_all_wait() -> None:
    assert isinstance(mixed[-1], RunFinished)
    state = state_of(conversation, *mixed)
    assert state.asked is not None
    assert state.asked.gated == ["call-0", "call-2"]
    assert len(state.asked.calls) == 3


# --- answering --------------------------------------------------------------------------------


def test_a_client_s_return_closes_the_call_and_the_turn_goes_on() -> None:
    first, second, third = given(conversation, *asked).when(answering(returned())).decided()
    assert isinstance(first, RunQueued)
    assert first.continues == RUN_ID
    assert isinstance(second, MessageAppended)
    assert second.role == "approval"
    assert isinstance(third, ToolFinished)
    assert (third.run_id, third.step_id, third.s) == (NEXT_RUN_ID, STEP_ID, S)
    assert (third.status, third.content, third.source) == ("ok", "sunny", "client")
    state = state_of(conversation, *asked, first, second, third)
    run = state.runs[NEXT_RUN_ID]
    assert run.turn.run_ids == (RUN_ID, NEXT_RUN_ID)
    held = replace(run, claimed=claimed(NEXT_RUN_ID))
    assert pending(held, 1) == TakeStep(NEXT_RUN_ID, 1, 0, 1)


def test_an_approved_call_is_owed_and_so_are_those_that_needed_no_word() -> None:
    command = answering(
        Approval(tool_call_id="call-0", approve=True),
        Approval(tool_call_id="call-2", approve=False, reason="no"),
    )
    facts = given(conversation, *mixed).when(command).decided()
    denied = facts[-1]
    assert isinstance(denied, ToolFinished)
    assert (denied.status, denied.source) == ("denied", "client")
    assert denied.content == "Error: request to call tool denied. User reason: no"
    run = state_of(conversation, *mixed, *facts).runs[NEXT_RUN_ID]
    assert [one.id for one in run.calls] == ["call-0", "call-1"]
    effect = pending(replace(run, claimed=claimed(NEXT_RUN_ID)), 1)
    assert isinstance(effect, RunTool)
    assert effect.call.id == "call-0"


def test_answers_name_all_that_wait_and_nothing_else() -> None:
    for answers in ([returned()], [returned(), returned()], [returned("call-1"), returned("x")]):
        given(conversation, *mixed).when(answering(*answers)).then_refused(
            Unasked, saying="Expected"
        )
    given(conversation, *stepping).when(answering(returned())).then_refused(Unasked)
    own = answering(
        Approval(tool_call_id="call-0", approve=True), tools=(ToolSchema(name="weather"),)
    )
    given(conversation, *asked).when(own).then_refused(Unasked, saying="own tool")


def test_an_older_form_names_the_message() -> None:
    old = answering(Approval(tool_call_id=MESSAGE_ID, approve=False))
    facts = given(conversation, *asked).when(old).decided()
    assert isinstance(facts[-1], ToolFinished)
    assert facts[-1].tool_call_id == "call-0"
    given(conversation, *mixed).when(old).then_refused(Unasked)


def test_the_same_answer_again_is_nothing_new_unless_its_run_failed() -> None:
    answered = [*asked, *given(conversation, *asked).when(answering(returned())).decided()]
    again = answering(returned(), run_id=THIRD_RUN_ID)
    given(conversation, *answered).when(again).then_nothing_happens()
    failed = RunFinished(
        run_id=NEXT_RUN_ID, status="failed", stop_reason="error", usage=asked[-1].usage
    )
    facts = given(conversation, *answered, failed).when(again).decided()
    assert [type(fact) for fact in facts] == [RunQueued]
    assert isinstance(facts[0], RunQueued)
    assert facts[0].continues == NEXT_RUN_ID
    run = state_of(conversation, *answered, failed, *facts).runs[THIRD_RUN_ID]
    assert run.turn.run_ids == (RUN_ID, NEXT_RUN_ID, THIRD_RUN_ID)


def test_a_cancel_denies_what_waits_and_a_rollback_hides_the_turn() -> None:
    (denied,) = given(conversation, *asked).when(CancelRuns()).decided()
    assert isinstance(denied, ToolFinished)
    assert (denied.status, denied.source, denied.run_id) == ("denied", "system", RUN_ID)
    assert state_of(conversation, *asked, denied).asked is None
    given(conversation, *asked).when(CancelRuns((NEXT_RUN_ID,))).then_refused(Refused)
    command = replace(queue(NEXT_RUN_ID), on_busy="rollback")
    facts = given(conversation, *asked).when(command).decided()
    hidden = next(fact for fact in facts if isinstance(fact, WindowRolledBack))
    assert hidden.run_ids == (RUN_ID,)
    assert hidden.message_ids == (MESSAGE_ID, REPLY_ID, denied.message_id)


def test_a_rollback_takes_back_the_whole_chain() -> None:
    answered = [*asked, *given(conversation, *asked).when(answering(returned())).decided()]
    stop = replace(queue(THIRD_RUN_ID), on_busy="rollback")
    facts = given(conversation, *answered, claimed(NEXT_RUN_ID)).when(stop).decided()
    state = state_of(conversation, *answered, claimed(NEXT_RUN_ID), *facts)
    ending = EndRun(NEXT_RUN_ID, 1, "cancelled", "cancelled")
    assert pending(state.runs[NEXT_RUN_ID], 1) == ending
    assert state.runs[NEXT_RUN_ID].turn.run_ids == (RUN_ID, NEXT_RUN_ID)
    assert len(state.runs[NEXT_RUN_ID].turn.message_ids) == 4


# --- the server's tools -----------------------------------------------------------------------


def start_tool(name: str = "call-0", epoch: int = 1, *, idempotent: bool = False) -> StartTool:
    return StartTool(RUN_ID, epoch, S, name, idempotent)


def finish_tool(name: str = "call-0", epoch: int = 1) -> FinishTool:
    return FinishTool(RUN_ID, epoch, S, name, "ok", "3")


def test_calls_are_owed_in_their_order_and_then_a_step() -> None:
    state = state_of(conversation, *working)
    effect = pending(state.runs[RUN_ID], 1)
    assert isinstance(effect, RunTool)
    assert effect.call.id == "call-0"
    done = [
        fact
        for name in ("call-0", "call-1")
        for fact in given(conversation, *working).when(finish_tool(name)).decided()
    ]
    assert pending(state_of(conversation, *working, *done).runs[RUN_ID], 1) == TakeStep(
        RUN_ID, 1, 1, 1
    )
    given(conversation, *working).when(start_step(index=1)).then_refused(Stale)


def test_a_call_that_was_begun_is_begun_again_only_if_it_may_be() -> None:
    for idempotent, kind in ((False, CloseCall), (True, RunTool)):
        begun = given(conversation, *working).when(start_tool(idempotent=idempotent)).decided()
        assert isinstance(begun[0], ToolStarted)
        taken = state_of(conversation, *working, *begun, claimed(epoch=2))
        assert isinstance(pending(taken.runs[RUN_ID], 2), kind)
    begun = given(conversation, *working).when(start_tool(idempotent=True)).decided()
    tired = state_of(conversation, *working, *begun, *begun, *begun)
    assert isinstance(pending(tired.runs[RUN_ID], 1), CloseCall)


def test_only_the_holder_of_the_run_writes_of_its_tools() -> None:
    for command in (start_tool(epoch=2), finish_tool(epoch=2), start_tool("call-9")):
        given(conversation, *working).when(command).then_refused(Stale)
    given(conversation, *working, cancel_requested()).when(finish_tool()).then_refused(Stale)
    given(conversation, *asked).when(start_tool()).then_refused(Stale)


def test_a_cancelled_run_cannot_fail_any_more() -> None:
    failing = FinishRun(EndRun(RUN_ID, 1, "failed", "error"))
    for history in (stepping, working):
        given(conversation, *history, cancel_requested()).when(failing).then_refused(Stale)


def test_a_cancelled_run_s_calls_are_closed_as_cancelled() -> None:
    state = state_of(conversation, *working, cancel_requested())
    effect = pending(state.runs[RUN_ID], 1)
    assert isinstance(effect, EndRun)


# --- attempts, and messages that join ---------------------------------------------------------


def test_an_attempt_that_failed_is_noted_with_its_pause() -> None:
    command = SupersedeStep(RUN_ID, 1, S, "provider_error", 500)
    (lost,) = given(conversation, *stepping).when(command).decided()
    assert isinstance(lost, StepSuperseded)
    assert (lost.attempt, lost.reason, lost.delay_ms) == (1, "provider_error", 500)
    state = state_of(conversation, *stepping, lost)
    assert pending(state.runs[RUN_ID], 1) == TakeStep(RUN_ID, 1, 0, 2, 500)
    for history in ((*stepping, cancel_requested()), (*stepping, claimed(epoch=2))):
        given(conversation, *history).when(command).then_refused(Stale)


def steer(run_id: str = NEXT_RUN_ID, message_id: str = NEXT_MESSAGE_ID) -> MessageQueued:
    return waiting(run_id, message_id).model_copy(update={"mode": "steer"})


def test_a_steer_is_let_in_before_the_next_step_and_ends_with_its_host() -> None:
    history = [*working, queued(NEXT_RUN_ID, on_busy="steer"), steer()]
    state = state_of(conversation, *history)
    assert len(state.steers) == 1
    done = [
        *given(conversation, *history).when(finish_tool("call-0")).decided(),
        *given(conversation, *history).when(finish_tool("call-1")).decided(),
    ]
    run = state_of(conversation, *history, *done).runs[RUN_ID]
    assert pending(run, 1, steered=True) == LetIn(RUN_ID, 1)
    (joined,) = given(conversation, *history, *done).when(JoinSteers(RUN_ID, 1)).decided()
    assert isinstance(joined, MessageAppended)
    assert (joined.run_id, joined.queued) == (RUN_ID, len(history))
    after = state_of(conversation, *history, *done, joined)
    assert after.runs[NEXT_RUN_ID].joined == RUN_ID
    assert after.steers == ()
    given(conversation, *history, *done, joined).when(
        CancelRuns((NEXT_RUN_ID,))
    ).then_nothing_happens()
    stop = [*history, *done, joined, cancel_requested()]
    facts = (
        given(conversation, *stop)
        .when(FinishRun(EndRun(RUN_ID, 1, "cancelled", "cancelled")))
        .decided()
    )
    assert [fact.run_id for fact in facts if isinstance(fact, RunFinished)] == [RUN_ID, NEXT_RUN_ID]
    assert state_of(conversation, *stop, *facts).runs == {}


def test_a_steer_that_comes_too_late_is_next() -> None:
    ended = RunFinished(
        run_id=RUN_ID, epoch=1, status="completed", stop_reason="end_turn", usage=asked[-1].usage
    )
    state = state_of(conversation, *stepping, queued(NEXT_RUN_ID, on_busy="steer"), steer(), ended)
    assert state.next_run is not None
    assert pending(state.next_run, None) == Claim(NEXT_RUN_ID, 1)


def test_a_steer_does_not_join_another_turn_than_the_one_it_came_for() -> None:
    ended = RunFinished(
        run_id=RUN_ID, epoch=1, status="completed", stop_reason="end_turn", usage=asked[-1].usage
    )
    patient = waiting(THIRD_RUN_ID, "message-x")
    history = [*stepping, queued(THIRD_RUN_ID), patient, queued(NEXT_RUN_ID, on_busy="steer")]
    state = state_of(conversation, *history, steer(), ended)
    assert list(state.runs) == [THIRD_RUN_ID, NEXT_RUN_ID]
    assert state.steers == ()
