"""What may happen in a conversation, and what is refused."""

from dataclasses import replace

from domain.content import Text
from domain.conversation import (
    AppendDeltas,
    ChangeConversation,
    ConversationChanged,
    ConversationDeleted,
    DeleteConversation,
    FinishRun,
    FinishStep,
    MessageAppended,
    MessageQueued,
    MessageWithdrawn,
    StartStep,
    conversation,
)
from domain.conversation.queueing import WAITING_RUNS_MAX
from domain.errors import Busy, Full, NotFound, Refused, Stale
from domain.run import (
    CalledTool,
    EndRun,
    Failure,
    RunCancelRequested,
    RunFinished,
    RunQueued,
    RunUsage,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    Usage,
)
from tests.examples import (
    MANIFEST,
    MESSAGE_ID,
    MODEL,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    REPLY_ID,
    RUN_ID,
    STEP_ID,
    USAGE,
    appended,
    cancel_requested,
    claim,
    claimed,
    deleted,
    finished,
    queue,
    queued,
    renamed,
    start,
    started,
    waiting,
)
from tests.given import given, state_of

stepping = StepStarted(
    run_id=RUN_ID,
    epoch=1,
    step_id=STEP_ID,
    index=0,
    attempt=1,
    message_id=REPLY_ID,
    model=MODEL,
    settings={},
    manifest=MANIFEST,
)
start_step = StartStep(RUN_ID, 1, STEP_ID, 0, 1, REPLY_ID, MODEL, {}, MANIFEST)
S = 5
busy = (started, queued(), appended(), claimed())
in_step = (*busy, stepping)
delta = StepDelta(s=S, i=0, kind="text", x="Hi")
part = StepPart(s=S, i=0, kind="text", text="Hi")
finish_step = FinishStep(RUN_ID, 1, S, "ok", (delta,), (part,), usage=USAGE, finish_reason="stop")
ended = RunFinished(
    run_id=RUN_ID,
    epoch=1,
    status="completed",
    stop_reason="end_turn",
    usage=RunUsage(input_tokens=10, output_tokens=3, step_count=1, context_tokens=13),
)


# --- the conversation itself ------------------------------------------------------------------


def test_a_conversation_starts_once() -> None:
    given(conversation).when(start).then(started)
    given(conversation, started).when(start).then_refused(Refused)


def test_nothing_can_be_asked_of_a_conversation_that_is_not_there() -> None:
    for command in (queue(), DeleteConversation(), claim(), ChangeConversation(renamed)):
        given(conversation).when(command).then_refused(NotFound)
    for command in (queue(), DeleteConversation(), ChangeConversation(renamed)):
        given(conversation, started, deleted).when(command).then_refused(NotFound)


def test_only_what_changes_is_recorded() -> None:
    asked = ChangeConversation(ConversationChanged(summary="Small talk", archived=True))
    given(conversation, started).when(asked).then(ConversationChanged(archived=True))
    same = ChangeConversation(ConversationChanged(summary="Small talk"))
    given(conversation, started).when(same).then_nothing_happens()
    given(conversation, started, renamed).when(same).then(ConversationChanged(summary="Small talk"))


def test_an_idle_conversation_is_just_deleted() -> None:
    given(conversation, started).when(DeleteConversation()).then(deleted)


def test_deleting_asks_its_runs_to_stop_and_ends_those_that_nobody_has() -> None:
    facts = given(conversation, *busy, queued(NEXT_RUN_ID), waiting()).when(DeleteConversation())
    assert facts.decided() == [
        RunCancelRequested(run_ids=(RUN_ID, NEXT_RUN_ID), reason="deleted"),
        MessageWithdrawn(message_ids=(NEXT_MESSAGE_ID,), reason="deleted"),
        RunFinished(
            run_id=NEXT_RUN_ID, status="cancelled", stop_reason="cancelled", usage=RunUsage()
        ),
        ConversationDeleted(),
    ]


# --- runs and their messages ------------------------------------------------------------------


def test_a_message_to_an_idle_conversation_enters_with_its_run() -> None:
    given(conversation, started).when(queue()).then(queued(), appended_without_place())


def appended_without_place() -> MessageAppended:
    return MessageAppended(
        message_id=MESSAGE_ID, otid=appended().otid, role="user", content="Hello!", run_id=RUN_ID
    )


def test_parts_of_a_message_are_kept() -> None:
    facts = given(conversation, started).when(queue(content=(Text(text="a"),))).decided()
    assert isinstance(facts[1], MessageAppended)
    assert facts[1].content == (Text(text="a"),)


def test_a_busy_conversation_refuses_or_lets_wait_as_asked() -> None:
    given(conversation, *busy).when(queue(NEXT_RUN_ID, on_busy="reject")).then_refused(
        Busy, saying=RUN_ID
    )
    facts = given(conversation, *busy).when(queue(NEXT_RUN_ID)).decided()
    assert [type(one) for one in facts] == [RunQueued, MessageQueued]


def test_no_more_runs_wait_than_the_bound() -> None:
    many = [queued(f"run-{n}") for n in range(WAITING_RUNS_MAX)]
    given(conversation, started, *many).when(queue()).then_refused(Full, saying="100")


def test_runs_are_claimed_in_their_order_each_under_the_next_epoch() -> None:
    two = (started, queued(), appended(), queued(NEXT_RUN_ID), waiting())
    given(conversation, *two).when(claim()).then(claimed())
    given(conversation, *two).when(claim(NEXT_RUN_ID)).then_refused(Stale)
    given(conversation, *two).when(claim(epoch=2)).then_refused(Stale)
    given(conversation, *busy).when(claim(epoch=1)).then_refused(Stale)
    given(conversation, *busy).when(claim(epoch=2)).then(claimed(epoch=2))


def test_what_waited_enters_when_its_run_is_claimed() -> None:
    history = (*busy, queued(NEXT_RUN_ID), waiting(), finished())
    facts = given(conversation, *history).when(claim(NEXT_RUN_ID)).decided()
    assert facts[0] == claimed(NEXT_RUN_ID)
    assert isinstance(facts[1], MessageAppended)
    assert (facts[1].queued, facts[1].content) == (6, "And then?")
    after = state_of(conversation, *history, *facts)
    assert after.waiting == ()


def test_messages_of_a_run_that_never_began_are_forgotten() -> None:
    after = state_of(conversation, *busy, queued(NEXT_RUN_ID), waiting(), finished(NEXT_RUN_ID))
    assert (after.waiting, list(after.runs)) == ((), [RUN_ID])


def test_a_takeover_supersedes_the_open_step() -> None:
    facts = given(conversation, *in_step).when(claim(epoch=2)).decided()
    assert facts == [
        claimed(epoch=2),
        StepSuperseded(s=S, reason="taken_over", attempt=1, attempts_max=3, delay_ms=0),
    ]
    after = state_of(conversation, *in_step, *facts)
    assert after.runs[RUN_ID].step is None
    assert after.runs[RUN_ID].attempts_lost == 1


def test_a_takeover_of_a_cancelled_step_leaves_it_to_be_closed() -> None:
    history = (*in_step, cancel_requested())
    given(conversation, *history).when(claim(epoch=2)).then(claimed(epoch=2))


# --- the fence --------------------------------------------------------------------------------


def test_an_old_epoch_may_not_write() -> None:
    fenced = (*in_step, claimed(epoch=2))
    for command in (
        start_step,
        AppendDeltas(RUN_ID, 1, (delta,)),
        finish_step,
        FinishRun(EndRun(RUN_ID, 1, "failed", "error")),
    ):
        given(conversation, *fenced).when(command).then_refused(Stale, saying="epoch")


def test_nothing_is_written_to_a_run_that_is_over() -> None:
    over = (*in_step, finished())
    given(conversation, *over).when(AppendDeltas(RUN_ID, 1, (delta,))).then_refused(Stale)
    given(conversation, *over).when(FinishRun(EndRun(RUN_ID, 1, "failed", "error"))).then_refused(
        Stale, saying="is over"
    )


def test_a_step_is_started_once_and_not_after_a_cancel() -> None:
    given(conversation, *busy).when(start_step).then(stepping)
    given(conversation, *in_step).when(start_step).then_refused(Stale)
    given(conversation, *busy, cancel_requested()).when(start_step).then_refused(Stale)


def test_deltas_belong_to_the_open_step() -> None:
    given(conversation, *in_step).when(AppendDeltas(RUN_ID, 1, (delta,))).then(delta)
    other = AppendDeltas(RUN_ID, 1, (delta.model_copy(update={"s": 99}),))
    given(conversation, *in_step).when(other).then_refused(Stale)
    given(conversation, *in_step, cancel_requested()).when(
        AppendDeltas(RUN_ID, 1, (delta,))
    ).then_refused(Stale)


# --- endings ----------------------------------------------------------------------------------


def test_the_end_of_a_reply_is_one_append_with_the_end_of_its_run() -> None:
    closed = StepFinished(s=S, outcome="ok", parts=1, usage=USAGE, finish_reason="stop")
    given(conversation, *in_step).when(finish_step).then(delta, part, closed, ended)


def test_a_reply_that_was_cut_off_at_the_limit_fails_its_run() -> None:
    facts = given(conversation, *in_step).when(replace(finish_step, finish_reason="length"))
    last = facts.decided()[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.stop_reason) == ("failed", "max_tokens_exceeded")


def test_a_reply_that_calls_tools_goes_on() -> None:
    called = CalledTool(id="call-1", name="weather", arguments="{}")
    calling = replace(finish_step, parts=(StepPart(s=S, i=0, kind="call", call=called),))
    facts = given(conversation, *in_step).when(calling)
    assert isinstance(facts.decided()[-1], StepFinished)


def test_a_cancelled_step_can_only_be_closed_as_interrupted() -> None:
    history = (*in_step, cancel_requested())
    given(conversation, *history).when(finish_step).then_refused(Stale)
    interrupted = FinishStep(RUN_ID, 1, S, "interrupted", parts=(part,))
    facts = given(conversation, *history).when(interrupted).decided()
    assert isinstance(facts[-1], RunFinished)
    assert (facts[-1].status, facts[-1].stop_reason) == ("cancelled", "cancelled")


def test_a_failure_closes_the_open_step_with_the_run() -> None:
    error = Failure(error_type="llm_error", message="no")
    ending = FinishRun(EndRun(RUN_ID, 1, "failed", "llm_api_error", error))
    facts = given(conversation, *in_step).when(ending).decided()
    assert facts[0] == StepFinished(s=S, outcome="failed", parts=0, error=error)
    assert isinstance(facts[1], RunFinished)
    assert facts[1].error == error
    alone = given(conversation, *busy).when(ending).decided()
    assert [type(one) for one in alone] == [RunFinished]


def test_a_message_whose_run_fails_before_it_began_is_let_in_all_the_same() -> None:
    history = (*busy, queued(NEXT_RUN_ID), waiting(), finished())
    ending = FinishRun(EndRun(NEXT_RUN_ID, 0, "failed", "error"))
    facts = given(conversation, *history).when(ending).decided()
    assert [type(one) for one in facts] == [MessageAppended, RunFinished]


def test_usage_adds_up_over_the_steps_of_a_run() -> None:
    first = StepFinished(
        s=S,
        outcome="ok",
        parts=0,
        usage=Usage(input_tokens=5, output_tokens=1, cached_input_tokens=2),
        finish_reason="tool_call",
    )
    second = stepping.model_copy(update={"index": 1})
    history = (*in_step, first, second)
    facts = given(conversation, *history).when(replace(finish_step, s=7, deltas=(), parts=()))
    last = facts.decided()[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == RunUsage(
        input_tokens=15,
        output_tokens=4,
        cached_input_tokens=2,
        step_count=2,
        context_tokens=13,
    )


def test_facts_of_unknown_runs_and_steps_change_nothing() -> None:
    before = state_of(conversation, started)
    after = state_of(
        conversation, started, claimed(), stepping, delta, part, finished(), cancel_requested()
    )
    lost = StepSuperseded(s=9, reason="timeout", attempt=1)
    assert after == before
    assert conversation.evolve(after, lost, 9) == before
